"""A chart of a study: seeds as faint lines, their median in bold, levels with their names."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liftscape.report._style import INK, MUTED, SERIES, new_panel
from liftscape.studies.findings import Chart, Series

__all__ = ["draw_chart"]

_COLOURS = [*SERIES.values(), MUTED]


def draw_chart(chart: Chart) -> Figure:
    """Draw a chart.

    Args:
        chart: the series with their titles.

    Returns:
        The figure.
    """
    figure, axes = new_panel(chart.title, chart.x, chart.y)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    for series in chart.series:
        _draw(axes, series)
    if not any(series.x or series.role == "level" for series in chart.series):
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=MUTED)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(handles)))
    return figure


def _draw(axes: Axes, series: Series) -> None:
    """Draw one series in its role."""
    colour, label = _COLOURS[series.group % len(_COLOURS)], series.label or None
    if series.role == "level":
        axes.axhline(series.y[0], color=INK, linewidth=0.9, linestyle="--")
        place = (1.0, series.y[0])
        axes.annotate(
            series.label,
            place,
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8.5,
            color=INK,
        )
    elif series.role == "points":
        axes.plot(series.x, series.y, "o", color=colour, markersize=4.5, alpha=0.6, markeredgewidth=0, label=label)
    elif series.role == "faint":
        axes.plot(series.x, series.y, color=colour, linewidth=0.8, alpha=0.35, label=label)
    else:
        width = 2.4 if series.role == "bold" else 1.5
        axes.plot(series.x, series.y, color=colour, linewidth=width, label=label)
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
