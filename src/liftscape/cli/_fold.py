"""`liftscape fold`: remove the layers that are linear on the data."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from liftscape.cli._options import Data, Dtype, Force, Json, Model, Recipe, Weights


def fold(
    model: Model,
    *,
    data: Data,
    out: Annotated[Path, Parameter(help="Folder for the folded network: its weights and its recipe.")],
    recipe: Recipe = None,
    weights: Weights = None,
    at: Annotated[
        list[str] | None,
        Parameter(negative="", help="Name of an activation to fold; repeatable; all that can be if not given."),
    ] = None,
    dtype: Dtype = "float64",
    force: Force = False,
    json: Json = False,
) -> None:
    """Remove every layer whose neurons each stay on one affine piece for all samples; outputs on them are kept.

    Writes the shallower network to a folder.
    """
    from liftscape.cli._load import load
    from liftscape.cli._network import output_gap, save_network
    from liftscape.cli._print import facts, interrupted_as, progress, show, table, user_output_aside, write_json

    with user_output_aside(), progress("folding"):
        from liftscape.folding import fold as remove_layers

        given = load(model, data, weights, recipe, dtype)
        folded = remove_layers(given.model, given.data, at=at)
        gap = output_gap(given.model, folded.model, given.data)
    save_network(given.base, folded.model, out, force)
    with interrupted_as(f"{out} was written"):
        if json:
            write_json(folded.to_dict() | {"output_gap": gap, "dtype": dtype, "folder": str(out)})
            return
        columns = ("activation", "between", "neurons", "linear", "dead", "folded", "reason")
        rows = [
            (
                row.activation,
                f"{row.first}, {row.last}",
                row.neurons,
                row.linear,
                row.dead,
                "yes" if row.folded else "no",
                row.reason,
            )
            for row in folded.report
        ]
        values = {
            "removed": ", ".join(folded.removed) or "none; the network is as it was",
            "parameters": f"{folded.parameters_before} → {folded.parameters_after}",
            "output gap on the data": f"{gap:.1e} (relative)",
            "written to": out,
        }
        show(table("Activations between two affine maps", columns, rows), facts("Folded network", values))
