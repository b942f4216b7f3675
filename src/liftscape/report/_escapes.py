"""The demo's escapes: loss along the paths off the manifolds, and in training from there."""

from matplotlib.figure import Figure

from liftscape.report._edge_labels import label_levels
from liftscape.report._style import INK, MUTED, SERIES, new_panel
from liftscape.studies.embedding_principle_escape_records import EscapeStudy

__all__ = ["draw_escape_paths", "draw_escape_training", "escape_caption"]

_COLOURS = ("blue", "orange", "purple", "sky")


def draw_escape_paths(study: EscapeStudy) -> Figure:
    """Draw the loss along the paths, relative to the minimum: constant on the manifold, then falling.

    Args:
        study: the escapes.

    Returns:
        The figure.
    """
    figure, axes = new_panel("Constant, then down past the boundary", "share of the path", "loss / loss at the minimum")
    for number, point in enumerate(study.points):
        relative = [loss / point.value for loss in point.path_loss]
        axes.plot(point.path, relative, color=SERIES[_COLOURS[number % len(_COLOURS)]], label=f"from {point.point}")
        if number == 0:
            axes.axvline(point.boundary, color=MUTED, linewidth=1, linestyle=":")
            axes.annotate(
                "boundary",
                (point.boundary, 0.02),
                xycoords=axes.get_xaxis_transform(),
                xytext=(4, 0),
                textcoords="offset points",
                color=MUTED,
                fontsize=8.8,
            )
    axes.legend(loc="lower left")
    return figure


def draw_escape_training(study: EscapeStudy) -> Figure:
    """Draw the losses in training, from past the boundary and from exact lifts, with the best shallow minimum.

    Args:
        study: the escapes.

    Returns:
        The figure.
    """
    figure, axes = new_panel("Training on, past the boundary and on it", "gradient step", "loss (mean squared error)")
    gap = study.steps[1] - study.steps[0]
    for number, point in enumerate(study.points):
        colour = SERIES[_COLOURS[number % len(_COLOURS)]]
        axes.plot(study.steps, point.escaped, color=colour, label=f"escaped from {point.point}")
        places = [place for place, step in enumerate(study.steps) if any(0 <= step - at < gap for at in point.grown)]
        axes.plot([study.steps[k] for k in places], [point.escaped[k] for k in places], "o", color=colour, markersize=4)
        axes.plot(study.steps, point.lifted, color=colour, linewidth=1.1, linestyle="--")
    axes.plot([], [], color=INK, linewidth=1.1, linestyle="--", label="exact lifts")
    highest = max([study.level, *(point.value for point in study.points)])
    lowest = min([study.level, *(min(point.escaped) for point in study.points)])
    axes.set_ylim(lowest - 0.05 * (highest - lowest), highest + 0.1 * (highest - lowest))
    label_levels(axes, [study.level], [f"{study.best}, the best shallow minimum"], [SERIES["green"]])
    # Below the axes, since curves of other seeds run anywhere.
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def escape_caption(study: EscapeStudy) -> str:
    """Say what came of the escapes.

    Args:
        study: the escapes.

    Returns:
        One paragraph.
    """
    below = sum(point.escaped[-1] < study.level for point in study.points)
    kept = max((abs(point.lifted[-1] / point.value - 1) for point in study.points), default=0.0)
    ways = "; ".join(
        f"{point.point} ({point.network}) {point.value:.6f} → {point.value - point.decrease:.6f} past the boundary → "
        f"{point.escaped[-1]:.6f} trained"
        for point in study.points
    )
    return (
        f"In front of a map of each worse minimum a layer of {study.width} {study.activation} neurons is inserted, of "
        f"which {study.neurons} leave their affine piece. The loss is constant along the lifted manifold and falls "
        f"past its boundary: {ways}. {below} of {len(study.points)} arrive below {study.best}, the best shallow "
        f"minimum of those found ({study.level:.6f}); a dot is another layer, inserted where the loss stood again. "
        f"Exact lifts of the first size, trained by the same optimizer for as long, end at {kept:.0e} of the loss "
        "from where they started."
    )
