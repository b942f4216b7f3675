"""`liftscape inspect`: where training stands, and how each layer bends the loss."""

from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from liftscape.cli._options import Checkpoint, Data, Dtype, Json, LossName, Model, Recipe, Weights
from liftscape.cli._print import facts, interrupted_as, progress, show, table, tell, user_output_aside, write_json
from liftscape.cli._user_model import load, risk_of
from liftscape.curvature import Forecast
from liftscape.inspection import Inspection
from liftscape.inspection import inspect as inspect_risk
from liftscape.report import check_folder, layer_rows, reading_rows, use_rows, write_inspection_report
from liftscape.risk import EmpiricalRisk

_DEFAULT = Path("inspection")
# A cost that is over before it is read needs no announcement.
_WORTH_SAYING = 5.0


def inspect(
    model: Model,
    *,
    data: Data,
    loss: LossName = None,
    weights: Weights = None,
    recipe: Recipe = None,
    layers: Annotated[list[str] | None, Parameter(help="Layers to read; all of them if not given.")] = None,
    probes: Annotated[int, Parameter(help="Random products for each trace.")] = 30,
    seed: Annotated[int, Parameter(help="Of all probes and starts.")] = 0,
    dtype: Dtype = "float64",
    checkpoint: Checkpoint = None,
    json: Json = False,
    out: Annotated[
        Path | None,
        Parameter(help="Folder for report.html; 'inspection' if not given, none then with --json.", show_default=False),
    ] = None,
) -> None:
    """Inspect a network: where its training stands, and which layers bend the loss.

    Prints the gains of the best gradient step and the best Newton step, the most negative curvature, and for each layer
    its parameters, trace and extreme eigenvalues with bounds; then how linear each layer is, and what a fold would
    cost and save.
    """
    folder = _DEFAULT if out is None and not json else out
    if folder is not None:
        check_folder(folder)
    with user_output_aside():
        given = load(model, data, weights, recipe, dtype)
        risk = risk_of(given, loss)
        found = run_inspection(risk, layers, probes, seed, checkpoint)
    with interrupted_as(f"{folder} may hold part of a report" if folder is not None else "nothing was written"):
        page = None if folder is None else write_page(found, folder, found.to_json())
        if json:
            write_json(found.to_dict())
            return
        show(*inspection_tables(found), "", found.verdict, found.advice, f"Report: {page}")


def run_inspection(
    risk: EmpiricalRisk, layers: list[str] | None, probes: int, seed: int, checkpoint: Path | None
) -> Inspection:
    """Inspect with a cost of seconds said beforehand on stderr, and a bar.

    Args:
        risk: the risk.
        layers: names, or None for all.
        probes: of each trace.
        seed: of all draws.
        checkpoint: a folder for the work under way, or None.

    Returns:
        The reading.
    """

    def announce(cost: Forecast) -> None:
        if cost.seconds >= _WORTH_SAYING:
            tell(f"Expected cost: {cost}")

    kept = "nothing was written" if checkpoint is None else f"the same command goes on from {checkpoint}"
    with interrupted_as(kept), progress("inspecting") as advance:
        generator = torch.Generator().manual_seed(seed)
        return inspect_risk(
            risk,
            at=layers,
            probes=probes,
            generator=generator,
            announce=announce,
            progress=advance,
            checkpoint=checkpoint,
        )


def write_page(found: Inspection, folder: Path, result: str, certificate: dict[str, Any] | None = None) -> Path:
    """Write the report.

    Args:
        found: the reading.
        folder: for the report.
        result: the result as JSON.
        certificate: rows of a certificate.

    Returns:
        The page.
    """
    return write_inspection_report(found, folder, result, certificate)


def inspection_tables(found: Inspection) -> list[Any]:
    """Return the reading and the layers as tables.

    Args:
        found: the reading.

    Returns:
        The tables.
    """
    named = {"Curvature by layer": layer_rows(found), "What each layer adds": use_rows(found)}
    tables = [
        table(title, list(rows[0]), [list(row.values()) for row in rows]) for title, rows in named.items() if rows
    ]
    return [facts("Where training stands", dict(reading_rows(found))), *tables]
