"""A chart of a study: seeds as faint lines, their median in bold, levels with their names."""

from collections.abc import Sequence
from textwrap import fill

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from liftscape.report._edge_labels import label_levels
from liftscape.report._plain_texts import label_of
from liftscape.report._style import INK, MUTED, SERIES, new_panel
from liftscape.studies.findings import Chart, HeatMap, Series

__all__ = ["draw_chart"]

# Characters that fit beside a panel.
_LINE = 36
_COLOURS = [*SERIES.values(), MUTED]


def draw_chart(chart: "Chart | HeatMap") -> Figure:
    """Draw a chart or a heat map.

    Args:
        chart: the series, or the rows, with their titles.

    Returns:
        The figure.
    """
    if isinstance(chart, HeatMap):
        return _draw_heat_map(chart)
    figure, axes = new_panel(chart.title, chart.x, fill(chart.y, _LINE))
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    levels = [series for series in chart.series if series.role == "level"]
    for series in chart.series:
        if series.role != "level":
            _draw(axes, series)
    if levels:
        values = [series.y[0] for series in levels]
        # The lines must be inside before their labels are placed.
        axes.plot([axes.get_xlim()[0]] * len(values), values, linestyle="none")
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        label_levels(axes, values, [series.label for series in levels], [INK] * len(levels))
    if not any(series.x or series.role == "level" for series in chart.series):
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=MUTED)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        _add_legend(figure, handles, labels)
    return figure


def _add_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend below the axes, in as many columns as the figure is wide enough for."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in (3, 2, 1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))
        for text in legend.get_texts():
            text.set_parse_math(False)
        if columns == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def _draw(axes: Axes, series: Series) -> None:
    """Draw one series in its role."""
    colour, label = _COLOURS[series.group % len(_COLOURS)], label_of(series.label) or None
    if series.role == "points":
        axes.plot(series.x, series.y, "o", color=colour, markersize=4.5, alpha=0.6, markeredgewidth=0, label=label)
    elif series.role == "faint":
        axes.plot(series.x, series.y, color=colour, linewidth=0.8, alpha=0.35, label=label)
    else:
        width = 2.4 if series.role == "bold" else 1.5
        axes.plot(series.x, series.y, color=colour, linewidth=width, label=label)
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def _draw_heat_map(chart: HeatMap) -> Figure:
    """Draw rows of colours, the first one on top."""
    figure, axes = new_panel(chart.title, chart.x, chart.y, height=1.6 + 0.26 * max(5, len(chart.rows)))
    edges = range(len(chart.columns))
    mesh = axes.pcolormesh(
        edges, range(len(chart.rows)), chart.values, vmin=0, vmax=1, cmap="viridis", shading="nearest", rasterized=True
    )
    shown = sorted({round(place * (len(chart.columns) - 1) / 5) for place in range(6)})
    axes.set_xticks(shown, [f"{chart.columns[place]:g}" for place in shown])
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.colorbar(mesh, ax=axes, label=fill(chart.value, _LINE // 2))
    return figure
