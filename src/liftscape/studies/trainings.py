"""What a training leaves in a study's rows: losses by step, steps to a loss, and the curves of many seeds."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from liftscape.studies.findings import Chart, Series
from liftscape.studies.verdicts import as_number
from liftscape.training.step_counts import steps_to

__all__ = ["capped_steps", "held_share", "loss_chart", "loss_curve", "seed_curves"]

Row = Mapping[str, Any]
Curve = tuple[list[float], list[float]]


def held_share(row: Row) -> float:
    """Return the share of neurons on one piece, averaged over layers and records.

    Args:
        row: with "held", a list of shares for each record.

    Returns:
        The share.

    Example:
        >>> held_share({"held": [[0.0, 0.5], [0.5, 1.0]]})
        0.5
    """
    return fmean(fmean(layers) for layers in row["held"])


def capped_steps(row: Row, level: float, most: int) -> float:
    """Return the steps to a loss, at least one, and those of the whole training where it is never reached.

    Args:
        row: with "steps" and "losses".
        level: the loss.
        most: steps of the whole training.

    Returns:
        The steps.

    Example:
        >>> capped_steps({"steps": [0, 10], "losses": [1.0, 0.5]}, 0.1, 10)
        10.0
    """
    return max(1.0, min(float(most), steps_to(level, row["steps"], loss_curve(row)[1])))


def loss_curve(row: Row) -> Curve:
    """Return steps, from 1 for a logarithmic axis, and losses.

    Args:
        row: with "steps" and "losses".

    Returns:
        Both.

    Example:
        >>> loss_curve({"steps": [0, 10], "losses": [1.0, "inf"]})
        ([1.0, 11.0], [1.0, inf])
    """
    return [step + 1.0 for step in row["steps"]], list(map(as_number, row["losses"]))


def seed_curves(groups: Mapping[str, Sequence[Row]], value: Callable[[Row], Curve] = loss_curve) -> tuple[Series, ...]:
    """Return a faint line for each run and a bold median for each group.

    Args:
        groups: runs by the label of their group.
        value: the curve of a run.

    Returns:
        The series, one colour for a group.
    """
    series: list[Series] = []
    for group, (label, own) in enumerate(groups.items()):
        curves = [value(row) for row in own]
        series += [Series("", tuple(x), tuple(y), "faint", group) for x, y in curves]
        middle = [median(values) for values in zip(*(y for _, y in curves), strict=True)]
        series.append(Series(label, tuple(curves[0][0]), tuple(middle), "bold", group))
    return tuple(series)


def loss_chart(name: str, title: str, series: Sequence[Series], caption: str = "", *, log_y: bool = False) -> Chart:
    """Draw losses against steps.

    Args:
        name: file name without suffix.
        title: what it shows.
        series: of :func:`seed_curves`, and more.
        caption: what else one sees, before the words on seeds.
        log_y: whether the vertical axis is logarithmic.

    Returns:
        The chart.
    """
    words = f"{caption} Faint: seeds; bold: their median.".strip()
    x, y = "gradient step + 1", "training loss (cross-entropy)"
    return Chart(name, title, x, y, tuple(series), words, log_x=True, log_y=log_y)
