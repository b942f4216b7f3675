"""Curves of the demo: loss along and across a manifold, training losses, and the approximate lift against ε."""

import math

from matplotlib.figure import Figure

from liftscape.report._edge_labels import label_levels
from liftscape.report._style import INK, MUTED, SERIES, new_panel
from liftscape.studies.embedding_principle_curve_records import PathStudy, SmoothStudy, TrainingLevel, TrainingStudy

__all__ = [
    "draw_loss_along_and_across",
    "draw_negative_curvature",
    "draw_relative_change",
    "draw_smooth_errors",
    "draw_training",
    "draw_training_near_levels",
]

_ROUNDING = 2.0**-53


def draw_loss_along_and_across(study: PathStudy) -> Figure:
    """Draw the loss on a path inside the manifold and on a line that leaves it, on one axis.

    Args:
        study: the path and the line.

    Returns:
        The figure.
    """
    figure, axes = new_panel(
        "Flat along the manifold, uphill across it", "share of the way", "loss (mean squared error)"
    )
    reach = max(study.across)
    along = [2 * t - 1 for t in study.along]
    axes.plot([s / reach for s in study.across], study.across_loss, color=SERIES["orange"], label="across the manifold")
    axes.plot(along, study.along_loss, color=SERIES["blue"], linewidth=2.4, label="along the manifold")
    axes.set_xticks([-1, 0, 1])
    axes.set_xlabel(
        f"along: one lifted network (−1) to another (+1), {max(study.along_distance):.3g} apart\n"
        f"across: distance from the manifold, in units of {reach:.2g}"
    )
    axes.legend(loc="upper center")
    return figure


def draw_relative_change(study: PathStudy) -> Figure:
    """Draw by how much the loss differs from the shallow loss, on log axes.

    Args:
        study: the path and the line.

    Returns:
        The figure.
    """
    figure, axes = new_panel(
        "How flat: only rounding is left",
        "distance travelled in parameter space",
        "change of the loss, relative to the loss",
    )
    across = [(s, loss) for s, loss in zip(study.across, study.across_loss, strict=True) if s > 0]
    along = [(d, loss) for d, loss in zip(study.along_distance, study.along_loss, strict=True) if d > 0]
    for name, colour, marker, curve in (
        ("across the manifold", SERIES["orange"], "-", across),
        ("along the manifold", SERIES["blue"], "o", along),
    ):
        distances = [distance for distance, _ in curve]
        changes = [max(abs(loss - study.value) / study.value, _ROUNDING) for _, loss in curve]
        axes.loglog(distances, changes, marker, color=colour, markersize=3.5, label=name)
    axes.axhline(_ROUNDING, color=MUTED, linewidth=1, linestyle=":")
    axes.annotate(
        "rounding of one float64 number, and below",
        (1.0, _ROUNDING),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=MUTED,
        fontsize=8.8,
    )
    axes.set_ylim(bottom=_ROUNDING / 30)
    axes.legend(loc="center left")
    return figure


def draw_training(study: TrainingStudy) -> Figure:
    """Draw all training losses from the start, on log axes.

    Args:
        study: the runs and the levels.

    Returns:
        The figure.
    """
    figure, axes = new_panel(
        f"Training {study.network}, small start", "gradient step", "training loss (mean squared error)"
    )
    _draw_runs(axes, study)
    axes.set_yscale("log")
    values = [loss for run in study.losses for loss in run]
    axes.set_ylim(min(values) * 0.85, max(values) * 1.15)
    _decimal_ticks(axes)
    _draw_levels(axes, study, study.levels)
    return figure


def draw_training_near_levels(study: TrainingStudy) -> Figure:
    """Draw the same losses near the lowest shallow critical values.

    Args:
        study: the runs and the levels.

    Returns:
        The figure.
    """
    figure, axes = new_panel("The same runs, enlarged", "gradient step", "training loss (mean squared error)")
    _draw_runs(axes, study)
    lowest = min(level.value for level in study.levels)
    near = [level for level in study.levels if level.value < 1.25 * lowest]
    highest = max(level.value for level in near)
    final = min(loss for run in study.losses for loss in run)
    axes.set_ylim(max(final, 0.8 * lowest) - 0.03 * lowest, highest + 0.1 * lowest)
    _draw_levels(axes, study, near)
    return figure


def _draw_runs(axes, study: TrainingStudy) -> None:
    """Draw one faint line for each run."""
    steps = [step + 1 for step in study.steps]
    axes.set_xscale("log")
    axes.set_xlim(1, steps[-1])
    for run in study.losses:
        axes.plot(steps, run, color=SERIES["blue"], alpha=0.45, linewidth=1.1)


def _draw_levels(axes, study: TrainingStudy, levels) -> None:
    """Draw and name the shallow critical values inside the vertical limits."""
    low, high = axes.get_ylim()
    inside = [level for level in levels if low < level.value < high]
    label_levels(
        axes,
        [level.value for level in inside],
        [_level_text(level) for level in inside],
        [SERIES["green"] if "minimum" in level.kind else SERIES["orange"] for level in inside],
    )


def _level_text(level: TrainingLevel) -> str:
    """Name a level by its point, its value and whether it is a minimum."""
    return f"{level.point}  {level.value:.5f} {'min.' if 'minimum' in level.kind else 'saddle'}"


def _decimal_ticks(axes) -> None:
    """Write the ticks of a log axis as plain numbers."""
    low, high = axes.get_ylim()
    ticks = [m * 10.0**p for p in range(-6, 4) for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def draw_smooth_errors(study: SmoothStudy) -> Figure:
    """Draw output error and gradient norm of the approximate lift against ε, with their fitted slopes.

    Args:
        study: the approximate lift.

    Returns:
        The figure.
    """
    figure, axes = new_panel(
        f"Lifted through {study.activation}, not exactly",
        "ε, size of the inserted input weights",
        "output error, gradient norm",
    )
    for values, slope, name, colour, marker in (
        (study.gradient_norm, study.gradient_slope, "gradient norm", SERIES["orange"], "s"),
        (study.output_error, study.error_slope, "largest output error", SERIES["blue"], "o"),
    ):
        axes.loglog(study.epsilons, values, marker + "-", color=colour, markersize=5, linewidth=1.3)
        middle = len(values) // 2
        axes.annotate(
            f"{name}\nslope {slope:.2f}",
            (study.epsilons[middle], values[middle]),
            xytext=(9, -9),
            textcoords="offset points",
            va="top",
            color=colour,
            fontsize=9.5,
        )
    low, high = min(study.output_error), max(study.gradient_norm)
    axes.set_ylim(low / 8, high * 3)
    return figure


def draw_negative_curvature(study: SmoothStudy) -> Figure:
    """Draw the smallest eigenvalue at the approximate lift against ε, beside that of the shallow minimum.

    Args:
        study: the approximate lift.

    Returns:
        The figure.
    """
    figure, axes = new_panel(
        "Its curvature has a downhill side",
        "ε, size of the inserted input weights",
        "smallest eigenvalue of the Hessian",
    )
    axes.semilogx(study.epsilons, study.smallest_eigenvalue, "o-", color=SERIES["orange"], markersize=5)
    axes.axhline(0.0, color=INK, linewidth=0.9)
    axes.axhline(study.shallow_smallest, color=SERIES["blue"], linewidth=1.1, linestyle=(0, (5, 3)))
    for count, epsilon in zip(study.negative, study.epsilons, strict=True):
        axes.annotate(
            f"{count} neg.",
            (epsilon, 0.03),
            xycoords=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8.8,
        )
    axes.margins(x=0.1)
    axes.annotate(
        f"shallow minimum: {study.shallow_smallest:.2g}",
        (1.0, study.shallow_smallest),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=SERIES["blue"],
        fontsize=9,
    )
    reach = max(math.fabs(value) for value in study.smallest_eigenvalue)
    axes.set_ylim(-1.45 * reach, max(0.35 * reach, 1.6 * study.shallow_smallest))
    return figure
