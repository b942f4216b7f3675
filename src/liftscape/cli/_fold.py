"""`liftscape fold`: remove the layers that are linear on the data, or as many as a budget allows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from torch import nn

from liftscape.cli._data import load_data
from liftscape.cli._network import check_places, relative_gap, save_network
from liftscape.cli._options import Data, Dtype, Force, Json, LossName, Model, Recipe, Weights
from liftscape.cli._print import facts, interrupted_as, progress, show, table, user_output_aside, write_json
from liftscape.cli._user_model import Loaded, load, risk_of
from liftscape.folding import Fold, FoldSearch, fold_within
from liftscape.folding import fold as remove_layers
from liftscape.integrations import OnnxExport
from liftscape.integrations.onnx_files import export_onnx
from liftscape.outcomes import LoadError


def fold(
    model: Model,
    *,
    data: Data,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for the folded network, its weights and its recipe; or a .safetensors file, which gets its "
            "recipe beside it."
        ),
    ],
    recipe: Recipe = None,
    weights: Weights = None,
    at: Annotated[
        list[str] | None,
        Parameter(negative="", help="Name of an activation to fold; repeatable; all that can be if not given."),
    ] = None,
    budget: Annotated[
        str | None,
        Parameter(
            # Else "-1%" would be taken for an option.
            allow_leading_hyphen=True,
            help="Fold by least squares too, as long as the loss rises by at most this, as in 0.1% or 0.001.",
        ),
    ] = None,
    by: Annotated[
        Literal["loss", "accuracy"], Parameter(help="What the budget is of: a relative rise, or points of accuracy.")
    ] = "loss",
    loss: LossName = None,
    held_out: Annotated[str | None, Parameter(help="Data as for --data on which the budget is checked.")] = None,
    onnx: Annotated[
        Path | None,
        Parameter(
            help="Write an ONNX file too, in float32, and compare onnxruntime's outputs on the data with torch's."
        ),
    ] = None,
    dtype: Dtype = "float64",
    force: Force = False,
    json: Json = False,
) -> None:
    """Remove every layer whose neurons each stay on one affine piece for all samples; outputs on them are kept.

    With --budget, layers leave by least squares as well: the one that costs least for each operation saved is next.
    Writes the shallower network as safetensors with its recipe; `--recipe` of the other commands takes it up again.
    """
    share = _share(budget, held_out)
    check_places(out, onnx)
    with user_output_aside(), progress("folding") as advance:
        given = load(model, data, weights, recipe, dtype)
        if share is None:
            folded = remove_layers(given.model, given.data, at=at)
        else:
            folded = _search(given, share, by, loss, held_out, at, advance)
        gap = relative_gap(given.model, folded.model, given.data)
        content, exported = (None, None) if onnx is None else _exported(folded.model, given, onnx)
    save_network(given.base, folded.model, out, force, content)
    with interrupted_as(f"{out} was written"):
        if json:
            written = {"out": str(out), "onnx": None if exported is None else exported.to_dict()}
            write_json(folded.to_dict() | {"output_gap": gap, "dtype": dtype} | written)
            return
        tables = _fold_tables(folded, gap, out) if isinstance(folded, Fold) else _search_tables(folded, gap, out)
        show(*tables, *(() if exported is None else (_onnx_table(exported),)))


def _share(text: str | None, held_out: str | None) -> float | None:
    """Read a budget, as a share or in per cent; None for none, which leaves nothing to check on held-out data."""
    if text is None:
        if held_out is None:
            return None
        raise LoadError(f"--held-out {held_out} is where a budget is checked; give --budget too, or leave it out.")
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise LoadError(f"--budget must be a number or a percentage, as in 0.1%, but {text!r} was given.") from None
    if not 0 <= value < float("inf"):
        raise LoadError(f"--budget must be a number of at least 0, but {text!r} was given.")
    return value


def _search(
    given: Loaded,
    share: float,
    by: str,
    loss: str | None,
    held_out: str | None,
    at: list[str] | None,
    advance: Callable[..., None],
) -> FoldSearch:
    """Search the folds of a user's network."""
    risk = risk_of(given, loss)
    kept = None if held_out is None else load_data(held_out, next(given.model.parameters()).dtype)
    return fold_within(risk, budget=share, by=by, held_out=kept, at=at, progress=advance)


def _exported(model: nn.Module, given: Loaded, onnx: Path) -> tuple[tuple[Path, bytes], OnnxExport]:
    """Return an ONNX file, not yet written, and its evidence."""
    content, exported = export_onnx(model, given.data, onnx)
    return (onnx, content), exported


def _onnx_table(exported: OnnxExport) -> Any:
    """Return what is told of an ONNX file."""
    verdict = "within" if exported.agrees else "ABOVE"
    values = {
        "gap of onnxruntime to torch": f"{exported.gap:.1e} (relative), {verdict} {exported.tolerance:.0e}",
        f"gap of {exported.dtype} to the network": f"{exported.rounding:.1e} (relative)",
        "written to": exported.path,
    }
    return facts("ONNX file", values)


def _fold_tables(folded: Fold, gap: float, out: Path) -> tuple[Any, Any]:
    """Return what an exact fold prints."""
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
    return table("Activations between two affine maps", columns, rows), facts("Folded network", values)


def _search_tables(found: FoldSearch, gap: float, out: Path) -> tuple[Any, Any]:
    """Return what a search prints."""
    first, last = found.steps[0], found.steps[len(found.removed)]
    columns = ("layer", "how", "R²", "loss", f"{found.by}, checked", "parameters", "operations", "within the budget")
    rows = [
        (
            step.activation or "as given",
            step.how,
            "" if step.r2 != step.r2 else f"{step.r2:.6f}",
            f"{step.loss:.6g}",
            f"{step.held_out:.6g}",
            step.parameters,
            step.operations,
            "yes" if step.within else "no",
        )
        for step in found.steps
    ]
    values = {
        "removed": ", ".join(found.removed) or "none; the network is as it was",
        "verdict": found.reason,
        "parameters": f"{first.parameters} → {last.parameters}",
        "operations": f"{first.operations} → {last.operations}",
        "output gap on the data": f"{gap:.1e} (relative)",
        "written to": out,
    }
    return table("Layers in the order in which they leave", columns, rows), facts("Folded network", values)
