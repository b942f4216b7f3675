"""What each command does, as its docstring says, for a help that imports no command."""

__all__ = ["DESCRIPTIONS"]

DESCRIPTIONS = {
    "demo": """Find critical points of shallow networks on Iris, lift them, certify the lifts, and write a report.

The report is one HTML file that opens offline.""",
    "study": """Run studies of the paper's claims: what was expected, what was seen, whether they agree.

A study that was cut off goes on where it was; one that is finished is not run again.""",
    "inspect": """Inspect a network: where its training stands, and which layers bend the loss.

Prints the gains of the best gradient step and the best Newton step, the most negative curvature, and for each layer
its parameters, trace and extreme eigenvalues with bounds; then how linear each layer is, and what a fold would
cost and save.""",
    "certify": """Certify what kind of point a network stands at: minimum, saddle, undecided, not critical.

The certificate comes with its evidence: gradient norm, inertia of the Hessian, thresholds, kink margin; beside it
stand the parameters, trace and extreme eigenvalues of each layer.""",
    "lift": """Insert layers in front of affine maps so that outputs on the data and criticality are kept.

Writes the deeper network to a folder; `liftscape fold MODEL --recipe FOLDER` takes it back.""",
    "fold": """Remove every layer whose neurons each stay on one affine piece for all samples; outputs on them are kept.

With --budget, layers leave by least squares as well: the one that costs least for each operation saved is next.
Writes the shallower network as safetensors with its recipe; `--recipe` of the other commands takes it up again.""",
    "escape": """Insert a layer into a stuck network so that its loss is lower: predicted, then measured on the data.

Writes the deeper network, or says why there is no way down and writes nothing.""",
}
