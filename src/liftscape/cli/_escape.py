"""`liftscape escape`: leave a plateau by a layer whose neurons are bent where that lowers the loss most."""

from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from liftscape.cli._network import check_places, save_network
from liftscape.cli._options import Data, Dtype, Force, Json, LossName, Model, Recipe, Weights
from liftscape.cli._print import facts, interrupted_as, progress, show, table, user_output_aside, write_json
from liftscape.cli._user_model import load, risk_of
from liftscape.escaping import Escape
from liftscape.escaping import escape as find_way_down


def escape(
    model: Model,
    *,
    data: Data,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the deeper network, its weights and its recipe; or a .safetensors file, which gets its "
            "recipe beside it."
        ),
    ],
    loss: LossName = None,
    weights: Weights = None,
    recipe: Recipe = None,
    at: Annotated[
        list[str] | None,
        Parameter(negative="", help="Name of a map in front of which to try; repeatable; all if not given."),
    ] = None,
    width: Annotated[
        int | None, Parameter(help="Neurons of the inserted layer; as few as will do if not given.")
    ] = None,
    neurons: Annotated[int, Parameter(help="How many of them leave their affine piece.")] = 1,
    activation: Annotated[str | None, Parameter(help="Such as elu; the network's own if not given.")] = None,
    ridge: Annotated[
        float, Parameter(help="0 for the largest decrease; 0.1 for a smaller one from which training goes on well.")
    ] = 0.0,
    tolerance: Annotated[
        float, Parameter(help="The network counts as stuck if one gradient step gains at most this share of the loss.")
    ] = 0.01,
    seed: Annotated[int, Parameter(help="Of the directions that are tried.")] = 0,
    dtype: Dtype = "float64",
    force: Force = False,
    json: Json = False,
) -> None:
    """Insert a layer into a stuck network so that its loss is lower: predicted, then measured on the data.

    Writes the deeper network, or says why there is no way down and writes nothing.
    """
    check_places(out, None)
    with user_output_aside(), progress("escaping") as advance:
        given = load(model, data, weights, recipe, dtype)
        found = find_way_down(
            risk_of(given, loss),
            at=at,
            width=width,
            neurons=neurons,
            activation=activation,
            ridge=ridge,
            tolerance=tolerance,
            generator=torch.Generator().manual_seed(seed),
            progress=advance,
        )
    written = found.status == "found"
    if written:
        save_network(given.base, found.model, out, force)
    with interrupted_as(f"{out} was written" if written else "nothing was written"):
        if json:
            write_json(found.to_dict() | {"seed": seed, "dtype": dtype, "out": str(out) if written else None})
            return
        show(*_tables(found, out))


def _tables(found: Escape, out: Path) -> tuple[Any, ...]:
    """Return what is printed."""
    if found.status == "none":
        return (facts("No way down", {"reason": found.reason, "written to": "nothing was written"}),)
    after = found.value - found.decrease
    values = {
        "loss": f"{found.value:.6g} → {after:.6g}",
        "predicted decrease": f"{found.predicted_decrease:.6g} ({'exact' if found.exact else 'second order'})",
        "measured decrease": f"{found.decrease:.6g}",
        "inserted": f"{found.width} neurons of {found.activation} in front of '{found.site}' (rank W = {found.rank})",
        "way": "along the lifted manifold, over the boundary of the affine pieces, and down",
        "written to": out,
    }
    columns = ("neuron", "piece that it left", "‖direction‖", "bias", "‖out-weights‖")
    rows = [
        (
            number,
            f"({neuron.piece.lower:g}, {neuron.piece.upper:g}), slope {neuron.piece.slope:g}",
            _norm(neuron.direction),
            neuron.bias,
            _norm(neuron.out_weights),
        )
        for number, neuron in enumerate(found.neurons, 1)
    ]
    return table("Neurons that left their piece", columns, rows), facts("Deeper network", values)


def _norm(entries: tuple[float, ...]) -> float:
    """Return the Euclidean length."""
    return sum(entry * entry for entry in entries) ** 0.5
