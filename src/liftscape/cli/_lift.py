"""`liftscape lift`: insert layers that keep the outputs and the criticality."""

from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from liftscape.cli._network import check_places, relative_gap, save_network
from liftscape.cli._options import Data, Dtype, Force, Json, Model, Recipe, Weights
from liftscape.cli._print import facts, interrupted_as, progress, show, table, user_output_aside, write_json
from liftscape.cli._user_model import load
from liftscape.embedding import Embedding
from liftscape.embedding import lift as insert_layers


def lift(
    model: Model,
    *,
    at: Annotated[list[str], Parameter(negative="", help="Name of a Linear, such as 2 or head.fc; repeatable.")],
    data: Data,
    out: Annotated[
        Path, Parameter(help="Folder for the lifted network, its weights and its recipe; or a .safetensors file.")
    ],
    weights: Weights = None,
    recipe: Recipe = None,
    width: Annotated[
        list[int] | None,
        Parameter(
            negative="", help="Neurons of the inserted layer (rank + 1 if not given); repeat for layers in a row."
        ),
    ] = None,
    activation: Annotated[str | None, Parameter(help="Such as elu; the one that follows the map if not given.")] = None,
    seed: Annotated[int, Parameter(help="Of the point that is drawn on the lifted manifold.")] = 0,
    dtype: Dtype = "float64",
    force: Force = False,
    json: Json = False,
) -> None:
    """Insert layers in front of affine maps so that outputs on the data and criticality are kept.

    Writes the deeper network to a folder; `liftscape fold MODEL --recipe FOLDER` takes it back.
    """
    check_places(out, None)
    with user_output_aside(), progress("lifting"):
        given = load(model, data, weights, recipe, dtype)
        embedding = insert_layers(
            given.model,
            at=at,
            inputs=given.data,
            width=width[0] if width is not None and len(width) == 1 else width,
            activation=activation,
            generator=torch.Generator().manual_seed(seed),
        )
        gap = relative_gap(given.model, embedding.model, given.data)
    save_network(given.base, embedding.model, out, force)
    result = _describe(embedding) | {"output_gap": gap, "seed": seed, "dtype": dtype, "out": str(out)}
    with interrupted_as(f"{out} was written"):
        if json:
            write_json(result)
            return
        columns = ("at", "widths", "rank W", "margin to the pieces' ends", "deviation from the pieces")
        rows = [(site["name"], site["widths"], site["rank"], site["margin"], site["bound"]) for site in result["sites"]]
        show(
            table("Inserted layers", columns, rows),
            facts(
                "Lifted network",
                {
                    "output gap on the data": f"{gap:.1e} (relative)",
                    "added parameters": embedding.added_parameters,
                    "corank of the chart": embedding.corank,
                    "change of inertia": f"{_change(result['change_of_inertia'])}, at a critical point",
                    "written to": out,
                },
            ),
        )


def _describe(embedding: Embedding) -> dict[str, Any]:
    """Return the evidence with the predicted change of inertia, as ranges with both ends included."""
    corank, added = embedding.corank, embedding.added_parameters
    change = {"negative": [-corank, 0], "zero": [added, added + 2 * corank], "positive": [-corank, 0]}
    return embedding.to_dict() | {"change_of_inertia": change}


def _change(change: dict[str, list[int]]) -> str:
    """Write the change of (n₋, n₀, n₊), ranges where it is only bounded."""
    ranges = [f"{low:+d}" if low == high else f"{low:+d} to {high:+d}" for low, high in change.values()]
    return f"(n₋, n₀, n₊) + ({', '.join(ranges)})".replace("+0", "0")
