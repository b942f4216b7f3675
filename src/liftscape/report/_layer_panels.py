"""Panels of an inspection: extreme eigenvalues and traces by layer, and the gains of the next step."""

from collections.abc import Sequence
from math import ceil, floor, isfinite, log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liftscape.curvature import LayerCurvature, Plateau
from liftscape.report._style import INK, MUTED, SERIES, new_panel

__all__ = ["draw_extremes", "draw_gains", "draw_traces"]

_MOST_ROWS = 40
_ROW_HEIGHT = 0.26
_DECADES_SHOWN = 6


def draw_extremes(rows: Sequence[LayerCurvature]) -> Figure:
    """Draw the span of each layer's eigenvalues on a symmetric-log axis.

    Args:
        rows: the whole network and its layers.

    Returns:
        The figure.
    """
    shown = _shown(rows)
    figure, axes = _panel("Lowest and highest curvature by layer", "eigenvalue of the layer's Hessian", len(shown))
    sizes = [abs(value) for row in shown for value in (row.lowest, row.highest) if isfinite(value) and value]
    linear = _symmetric_log(axes, sizes)
    for place, row in enumerate(shown):
        if not isfinite(row.lowest) or not isfinite(row.highest):
            axes.text(0, place, " not known", va="center", color=MUTED, fontsize=9)
            continue
        axes.plot([row.lowest, row.highest], [place, place], color=MUTED, linewidth=1.2, zorder=1)
        downhill = row.lowest + row.lowest_bound < 0
        colour, marker = (SERIES["orange"], "v") if downhill else (MUTED, "o")
        axes.plot([row.lowest], [place], marker, color=colour, markersize=6, markeredgewidth=0)
        axes.plot([row.highest], [place], "o", color=SERIES["blue"], markersize=6, markeredgewidth=0)
    axes.axvspan(-linear / 2, linear / 2, color=MUTED, alpha=0.12, linewidth=0)
    _name_rows(axes, shown)
    return figure


def draw_traces(rows: Sequence[LayerCurvature]) -> Figure:
    """Draw each layer's trace with its interval.

    Args:
        rows: the whole network and its layers.

    Returns:
        The figure.
    """
    shown = _shown(rows)
    figure, axes = _panel("Trace by layer", "trace of the layer's Hessian", len(shown))
    sizes = [abs(row.trace.value) for row in shown if isfinite(row.trace.value) and row.trace.value]
    _symmetric_log(axes, sizes)
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(shown):
        if not isfinite(row.trace.value):
            axes.text(0, place, " not known", va="center", color=MUTED, fontsize=9)
            continue
        axes.plot(row.trace.interval, [place, place], color=SERIES["blue"], linewidth=5, alpha=0.35)
        axes.plot([row.trace.value], [place], "o", color=SERIES["blue"], markersize=5, markeredgewidth=0)
    _name_rows(axes, shown)
    return figure


def draw_gains(reading: Plateau) -> Figure:
    """Draw the predicted and the measured gain of both steps, as shares of the risk.

    Args:
        reading: the plateau reading.

    Returns:
        The figure.
    """
    figure, axes = new_panel("What one best step gains", "", "share of the loss R")
    scale = abs(reading.value) or 1.0
    for place, step in enumerate((reading.gradient_step, reading.newton_step)):
        for shift, gain, colour, label in (
            (-0.18, step.predicted_decrease, SERIES["sky"], "predicted"),
            (0.18, step.decrease, SERIES["blue"], "measured"),
        ):
            share = gain / scale if isfinite(gain) else 0.0
            axes.bar([place + shift], [share], width=0.32, color=colour, label=label if place == 0 else None)
            text = f"{share:.2g}" if isfinite(gain) else "not finite"
            axes.annotate(
                text,
                (place + shift, share),
                xytext=(0, 3 if share >= 0 else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if share >= 0 else "top",
                fontsize=9,
            )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.margins(y=0.2)
    axes.set_xticks([0, 1], ["gradient step", "Newton step"])
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left")
    return figure


def _shown(rows: Sequence[LayerCurvature]) -> list[LayerCurvature]:
    """Return the rows that fit, the layers of largest curvature where there are more, in their order."""
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    ranked = sorted(rows[1:], key=lambda row: row.highest if isfinite(row.highest) else 0.0, reverse=True)
    kept = {id(row) for row in ranked[: _MOST_ROWS - 1]}
    return [rows[0], *(row for row in rows[1:] if id(row) in kept)]


def _panel(title: str, x: str, count: int) -> tuple[Figure, Axes]:
    """Return axes for so many rows."""
    return new_panel(title, x, "", height=max(2.4, 1.3 + _ROW_HEIGHT * count))


def _symmetric_log(axes: Axes, sizes: Sequence[float]) -> float:
    """Give the axis a symmetric-log scale that shows the sizes, and return where it turns linear."""
    largest = max(sizes, default=1.0)
    smallest = max(min(sizes, default=largest), largest * 10.0**-_DECADES_SHOWN)
    linear = 10.0 ** floor(log10(smallest))
    axes.set_xscale("symlog", linthresh=linear, linscale=0.6)
    lowest, highest = floor(log10(linear)), floor(log10(largest))
    step = max(1, ceil((highest - lowest) / 2))
    # The power at which the axis turns linear stands too near to zero for a label.
    powers = range(highest, lowest + step - 1, -step)
    axes.set_xticks([*(-(10.0**power) for power in powers), 0.0, *(10.0**power for power in powers)])
    axes.minorticks_off()
    return linear


def _name_rows(axes: Axes, rows: Sequence[LayerCurvature]) -> None:
    """Write the layers' names beside their rows, the first row on top, and leave out the side where nothing is."""
    values = [value for row in rows for value in (row.lowest, *row.trace.interval) if isfinite(value)]
    left, right = axes.get_xlim()
    if min(values, default=0.0) >= 0:
        left = min(0.0, left)
    axes.set_xlim(left, right * 1.5 if right > 0 else right)
    axes.set_yticks(range(len(rows)), [_short(row.layer) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _short(name: str) -> str:
    """Cut a long name in its middle."""
    return name if len(name) <= 26 else f"{name[:10]}…{name[-15:]}"
