"""The report of an inspection: the verdict, curvature by layer, and what the next step gains."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from liftscape.inspection import Inspection, LayerUse
from liftscape.report._captions import power_of_ten
from liftscape.report._layer_panels import draw_extremes, draw_gains, draw_traces
from liftscape.report._page import render_page, write_report
from liftscape.report._style import figure_style
from liftscape.report._svg import Panel, render

__all__ = ["layer_rows", "reading_rows", "use_rows", "write_inspection_report"]

# R² of an affine map that explains all but rounding.
_ROUNDING = 1e-12


def write_inspection_report(
    inspection: Inspection, out: Path, result: str, certificate: Mapping[str, Any] | None = None
) -> Path:
    """Write ``report.html`` (one file), its figures as SVG and PNG, and ``result.json``.

    Args:
        inspection: the reading.
        out: the folder; made if it does not exist.
        result: the result as JSON, kept beside the page.
        certificate: rows of a certificate by name, shown first where there is one.

    Returns:
        The path of the page.

    Raises:
        LoadError: if the folder is a file, or holds another ``report.html``.
    """
    with figure_style():
        panels: dict[str, list[Panel]] = {
            "layers": [
                render("extremes", draw_extremes(inspection.rows), _extremes_caption(inspection)),
                render("traces", draw_traces(inspection.rows), _traces_caption(inspection)),
            ],
            "gains": [render("gains", draw_gains(inspection.plateau), _gains_caption(inspection))],
        }
    page = render_page(
        "inspection.html",
        inspection=inspection,
        title=f"Where {inspection.model} stands in the loss landscape",
        certificate=dict(certificate or {}),
        captions={
            "extremes": _extremes_caption(inspection),
            "traces": _traces_caption(inspection),
            "gains": _gains_caption(inspection),
        },
        layers=layer_rows(inspection),
        uses=use_rows(inspection),
        facts=reading_rows(inspection),
        panels=panels,
    )
    return write_report(out, page, panels, result)


def layer_rows(inspection: Inspection) -> list[dict[str, Any]]:
    """Return one row for the whole network and for each layer, as text.

    Args:
        inspection: the reading.

    Returns:
        Rows of column title to value.
    """
    return [
        {
            "layer": row.layer,
            "parameters": row.parameters,
            "trace": _with_interval(row.trace.value, row.trace.interval),
            "lowest eigenvalue": _with_bound(row.lowest, row.lowest_bound),
            "highest eigenvalue": _with_bound(row.highest, row.highest_bound),
            "status": row.status,
        }
        for row in inspection.rows
    ]


def use_rows(inspection: Inspection) -> list[dict[str, Any]]:
    """Return one row for each activation, as text.

    Args:
        inspection: the reading.

    Returns:
        Rows of column title to value.
    """
    return [
        {
            "activation": row.activation,
            "neurons": row.neurons,
            "on one affine piece": f"{row.occupancy:.1%}",
            "dead": row.dead,
            "linear": _linear_on(row),
            "folds exactly": "yes" if row.folds_exactly else "no",
            "least |ρ|": f"{row.min_correlation:.3f}" if isfinite(row.min_correlation) else "",
            "R² of one map instead": _explained(row),
            "change of R": power_of_ten(row.loss_change, 2) if isfinite(row.loss_change) else "",
            "parameters saved": f"{row.parameters_saved:,}" if row.parameters_saved else "",
        }
        for row in inspection.uses
    ]


def _linear_on(row: LayerUse) -> str:
    """Say where a layer is linear: by its pieces on the hull of its features, or by its affine map on the samples."""
    if row.exactly_linear:
        return "on the hull"
    return "on the data" if row.r2 >= 1 - _ROUNDING and not row.is_undecided else "no"


def _explained(row: LayerUse) -> str:
    """Write R² where it says something of the layer."""
    if row.is_undecided:
        return "too few samples"
    return f"{row.r2:.4f}" if isfinite(row.r2) else ""


def _with_bound(value: float, bound: float) -> str:
    """Write a value with the bound of its error."""
    return f"{power_of_ten(value, 2)} ± {power_of_ten(bound)}" if isfinite(value) else "not known"


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    """Write a value with its interval, where that is not a point."""
    low, high = interval
    if not isfinite(value):
        return "not known"
    if high - low <= 1e-6 * abs(value):
        return power_of_ten(value, 2)
    return f"{power_of_ten(value, 2)} ({power_of_ten(low, 2)} to {power_of_ten(high, 2)})"


def reading_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Return the numbers of the reading by name, as text.

    Args:
        inspection: the reading.

    Returns:
        Pairs of name and value.
    """
    reading = inspection.plateau
    steps = (("gradient", reading.gradient_step), ("Newton", reading.newton_step))
    return [
        ("loss R", power_of_ten(reading.value, 3)),
        ("gradient norm ‖∇R‖", power_of_ten(reading.gradient_norm, 2)),
        ("parameter norm ‖θ‖", power_of_ten(reading.parameter_norm, 2)),
        ("relative gradient ‖∇R‖·‖θ‖/|R|", power_of_ten(reading.relative_gradient, 2)),
        ("most negative curvature", _with_bound(reading.lowest_curvature, reading.curvature_bound)),
        *(
            (
                f"best {name} step",
                f"length {power_of_ten(step.length, 2)}, predicted to lower R by "
                f"{power_of_ten(step.predicted_decrease, 2)}, measured {power_of_ten(step.decrease, 2)}",
            )
            for name, step in steps
        ),
        ("longest step considered", power_of_ten(reading.radius, 2)),
        ("parameters", f"{inspection.parameters:,}"),
        ("samples", f"{inspection.samples:,}"),
        ("dtype", inspection.dtype.removeprefix("torch.")),
    ]


def _extremes_caption(inspection: Inspection) -> str:
    """Say what the panel of extreme eigenvalues shows."""
    sharpest = max(inspection.layers, key=lambda row: row.highest, default=None)
    sentence = (
        "Each line spans the eigenvalues of the Hessian of one layer, all other layers held fixed: to the right the "
        "loss curves up, to the left down."
    )
    if sharpest is not None and isfinite(sharpest.highest):
        sentence += f" The sharpest layer is {sharpest.layer} with {power_of_ten(sharpest.highest, 2)}."
    return sentence


def _traces_caption(inspection: Inspection) -> str:
    """Say what the panel of traces shows."""
    confidence = inspection.whole.trace.confidence
    return (
        f"The trace is the sum of a layer's curvatures; bars are its {confidence:.0%} intervals, points without a bar "
        "are exact."
    )


def _gains_caption(inspection: Inspection) -> str:
    """Say what the panel of steps shows."""
    reading = inspection.plateau
    return (
        "By how much the best step along the gradient, and the best step of all, lower the loss: as the quadratic "
        f"model predicts, and as measured. Steps are at most {power_of_ten(reading.radius, 2)} long, and shorter where "
        "the model does not hold that far."
    )
