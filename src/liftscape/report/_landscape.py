"""Pictures of slices: the risk on a line and over a plane, values that are not finite shown as what they are."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from liftscape._files import write_atomically
from liftscape.curvature import Slice, Surface, Trajectory
from liftscape.outcomes import LiftscapeError
from liftscape.report._plain_texts import label_of
from liftscape.report._style import INK, MUTED, PAPER, SERIES, figure_style, new_panel
from liftscape.report._svg import render

__all__ = ["draw_slice", "draw_surface", "plot_slice", "plot_surface"]

# A risk that spans more than this factor is drawn on a log scale.
_WIDE = 30.0
_LEVELS = 12
_PLOTS = (".svg", ".png")
_AXIS_TITLES = ("a, in units of u", "b, in units of v")


def plot_slice(slices: "Slice | Sequence[Slice]", path: "Path | str", labels: Sequence[str] = ()) -> Path:
    """Plot R(θ + a·u) against a, of one direction or of several, as one SVG or PNG: same slices, same bytes.

    Args:
        slices: one, or several on common axes.
        path: ending in ``.svg`` or ``.png``; a file there is replaced.
        labels: what each direction is, for the legend.

    Returns:
        The file.

    Raises:
        LiftscapeError: if the suffix is another, or labels are not as many as slices.

    Example:
        >>> import tempfile
        >>> grid = torch.linspace(-1, 1, 5, dtype=torch.float64)
        >>> place = Path(tempfile.mkdtemp()) / "slice.svg"
        >>> plot_slice(Slice(grid, grid**2, 1.0), place).name
        'slice.svg'
    """
    several = [slices] if isinstance(slices, Slice) else list(slices)
    if labels and len(labels) != len(several):
        raise LiftscapeError(f"{len(labels)} labels were given for {len(several)} slices; give one for each.")
    return _write(path, lambda: draw_slice(several, labels))


def plot_surface(surface: Surface, path: "Path | str", trajectory: Trajectory | None = None) -> Path:
    """Plot R(θ + a·u + b·v) over the plane as one SVG or PNG, with a training's way through it where one is given.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018 (arXiv 1712.09913), figures 5 and 9.

    Args:
        surface: its first direction goes to the right, its second one up.
        path: ending in ``.svg`` or ``.png``; a file there is replaced.
        trajectory: a training in the coordinates of the same directions and center.

    Returns:
        The file.

    Raises:
        LiftscapeError: if the suffix is another, or the trajectory has fewer than two coordinates.

    Example:
        >>> import tempfile
        >>> grid = torch.linspace(-1, 1, 5, dtype=torch.float64)
        >>> bowl = Surface(grid, grid, grid[:, None] ** 2 + grid**2, (1.0, 1.0), 0.0)
        >>> plot_surface(bowl, Path(tempfile.mkdtemp()) / "surface.png").name
        'surface.png'
    """
    if trajectory is not None and trajectory.coordinates.shape[1] < 2:
        raise LiftscapeError(
            f"a way over a surface needs two coordinates, but shape {tuple(trajectory.coordinates.shape)} was given; "
            "project the trajectory on two components."
        )
    return _write(path, lambda: draw_surface(surface, trajectory))


def draw_slice(slices: Sequence[Slice], labels: Sequence[str] = ()) -> Figure:
    """Draw the risk along directions; where it is not finite, marks stand on the axis.

    Args:
        slices: on common axes.
        labels: one each, or none.

    Returns:
        The figure.
    """
    figure, axes = new_panel("Loss along a direction" if len(slices) == 1 else "Loss along directions", "", "loss R")
    axes.set_xlabel(f"a, in units of u (‖u‖ = {slices[0].norm:.3g})" if len(slices) == 1 else "a, in units of u")
    finite = torch.cat([line.values[torch.isfinite(line.values)] for line in slices])
    if _wide(finite):
        axes.set_yscale("log")
    colours = list(SERIES.values())
    missing = False
    for index, line in enumerate(slices):
        colour = colours[index % len(colours)]
        seen = torch.isfinite(line.values)
        values = torch.where(seen, line.values, torch.nan)
        # A lone finite point between two that are not has no line; the marker shows it.
        label = label_of(labels[index]) if labels else None
        axes.plot(
            line.coordinates,
            values,
            color=colour,
            marker=".",
            markersize=4,
            label=label,
        )
        gaps = line.coordinates[~seen]
        missing |= len(gaps) > 0
        for mark in axes.plot(gaps, torch.zeros_like(gaps), "x", color=colour, transform=axes.get_xaxis_transform()):
            mark.set_clip_on(False)
            mark.set_in_layout(False)
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
    if missing:
        axes.plot([], [], "x", color=MUTED, label="not finite")
    if missing or labels:
        axes.legend()
    return figure


def draw_surface(surface: Surface, trajectory: Trajectory | None = None) -> Figure:
    """Draw the risk over a plane as colours and level lines.

    Args:
        surface: the values.
        trajectory: drawn over them.

    Returns:
        The figure.
    """
    x_title, y_title = _axis_titles(surface, trajectory)
    figure, axes = new_panel("Loss over a plane" if trajectory is None else "Training over the loss", x_title, y_title)
    axes.grid(visible=False)
    a, b = surface.first.numpy(), surface.second.numpy()
    values = torch.where(torch.isfinite(surface.values), surface.values, torch.nan).T.numpy()
    finite = surface.values[torch.isfinite(surface.values)]
    if not len(finite):
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    norm = _colour_scale(finite)
    axes.set_facecolor(MUTED)
    mesh = axes.pcolormesh(a, b, values, norm=norm, cmap="viridis", shading="nearest", rasterized=True)
    if float(finite.min()) < float(finite.max()) and min(values.shape) > 2:
        axes.contour(a, b, values, _levels(norm), colors=PAPER, linewidths=0.7)
    figure.colorbar(mesh, ax=axes, label="loss R")
    if trajectory is not None:
        _draw_way(axes, trajectory)
    handles, names = axes.get_legend_handles_labels()
    if len(finite) < surface.values.numel():
        handles, names = [*handles, Patch(color=MUTED)], [*names, "not finite"]
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    if _true_to_shape(surface):
        axes.set_aspect("equal")
    return figure


def _true_to_shape(surface: Surface) -> bool:
    """Whether equal units on both axes show the plane as it is, in a panel that is not a strip."""
    sides = [
        norm * float(grid[-1] - grid[0])
        for norm, grid in zip(surface.norms, (surface.first, surface.second), strict=True)
    ]
    return (
        max(surface.norms) < 1.01 * min(surface.norms) and abs(surface.cosine) < 0.1 and max(sides) < 1.5 * min(sides)
    )


def _axis_titles(surface: Surface, trajectory: Trajectory | None) -> list[str]:
    """Name the axes, with lengths of the directions or what they explain of the training."""
    if trajectory is None:
        notes = [f"length {norm:.3g}" for norm in surface.norms]
    else:
        notes = [f"{share:.0%} of the movement" for share in trajectory.explained[:2]]
    return [f"{axis} ({note})" for axis, note in zip(_AXIS_TITLES, notes, strict=True)]


def _wide(finite: Tensor) -> bool:
    """Whether positive values span so much that a linear scale hides most of them."""
    return len(finite) > 0 and bool(finite.min() > 0) and bool(finite.max() > _WIDE * finite.min())


def _colour_scale(finite: Tensor) -> Normalize:
    """Return a scale over the values, logarithmic where they span much."""
    low, high = float(finite.min()), float(finite.max())
    return LogNorm(low, high) if _wide(finite) else Normalize(low, high)


def _levels(norm: Normalize) -> list[float]:
    """Return the values at even steps of the colour scale."""
    return [float(norm.inverse((step + 1) / (_LEVELS + 1))) for step in range(_LEVELS)]


def _draw_way(axes: Axes, trajectory: Trajectory) -> None:
    """Draw the training from its start to its end."""
    x, y = trajectory.coordinates[:, 0], trajectory.coordinates[:, 1]
    axes.plot(x, y, color=PAPER, linewidth=3)
    axes.plot(x, y, color=SERIES["orange"], linewidth=1.6, marker=".", markersize=4, label="training")
    for place, marker, name in ((0, "o", "start"), (-1, "*", "end")):
        axes.plot(x[place], y[place], marker, color=SERIES["orange"], markeredgecolor=INK, markersize=10, label=name)


def _write(path: "Path | str", draw: Callable[[], Figure]) -> Path:
    """Draw and write the picture."""
    target = Path(path)
    if target.suffix not in _PLOTS:
        raise LiftscapeError(f"a plot is written as .svg or .png, but {target.name} was asked for; name it so.")
    if not target.parent.is_dir():
        raise LiftscapeError(f"{target.parent} is no folder; make it first.")
    with figure_style():
        figure = draw()
    panel = render(target.stem, figure, figure.axes[0].get_title(loc="left"))
    write_atomically(target, panel.svg if target.suffix == ".svg" else panel.png)
    return target
