"""Labels at the right edge of a panel that never overlap."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from liftscape.report._style import MUTED

__all__ = ["label_levels", "spread"]


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions apart to at least `gap`, in their order, each group staying centred where it was.

    Args:
        positions: any order.
        gap: smallest distance between two results.

    Returns:
        The new positions, in the order given.

    Example:
        >>> spread([0.0, 1.0, 10.0], gap=3.0)
        [-1.0, 2.0, 10.0]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _start(groups[-1], positions, gap) < _end(groups[-2], positions, gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [0.0] * len(positions)
    for group in groups:
        for rank, index in enumerate(group):
            placed[index] = _start(group, positions, gap) + rank * gap
    return placed


def _start(group: list[int], positions: Sequence[float], gap: float) -> float:
    """Return the lowest position of a group that is centred on the mean of its members."""
    return sum(positions[index] for index in group) / len(group) - gap * (len(group) - 1) / 2


def _end(group: list[int], positions: Sequence[float], gap: float) -> float:
    """Return the highest position of such a group."""
    return _start(group, positions, gap) + gap * (len(group) - 1)


def label_levels(axes: Axes, values: Sequence[float], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Draw horizontal lines and name them beside the axes, with leaders where a label had to move.

    Args:
        axes: the axes; their limits and scale must be set already.
        values: heights of the lines, in data units.
        texts: their names.
        colours: their colours.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((axes.get_xlim()[1], value))[1]) for value in values]
    inside = spread(heights, gap=0.062)
    shift = max(0.0, max(inside, default=0.0) - 1.0)
    for value, height, place, text, colour in zip(values, heights, inside, texts, colours, strict=True):
        axes.axhline(value, color=colour, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1.5)
        axes.plot(
            [1.0, 1.045], [height, place - shift], transform=axes.transAxes, color=MUTED, linewidth=0.7, clip_on=False
        )
        axes.text(1.05, place - shift, text, transform=axes.transAxes, color=colour, fontsize=8.8, va="center")
