"""The risk along one direction and over the plane of two: parameters move, buffers never do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._sketch import curve, heat_map
from liftscape.curvature._evaluations import evaluate
from liftscape.curvature._sample_files import read_record, write_record
from liftscape.curvature._slice_directions import check_direction
from liftscape.curvature._work import Progress
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Radius", "Slice", "Surface", "slice_1d", "slice_2d"]

Radius = float | tuple[float, float]


@dataclass(frozen=True)
class Slice(Outcome):
    """R(θ + a·u) at points on a line.

    Attributes:
        coordinates: (P,), the a, ascending, in units of u; float64 on the CPU.
        values: (P,), the risk as computed, NaN and inf as they came; float64 on the CPU.
        norm: ‖u‖.
    """

    coordinates: Float[Tensor, " P"]
    values: Float[Tensor, " P"]
    norm: float

    def save(self, path: "Path | str") -> Path:
        """Save the slice as one file: same slice, same bytes.

        Args:
            path: ending in ``.safetensors``.

        Returns:
            The file.
        """
        tensors = {"coordinates": self.coordinates, "values": self.values}
        return write_record(path, "slice", tensors, {"norm": self.norm})

    @classmethod
    def load(cls, path: "Path | str") -> "Slice":
        """Read a slice that was saved.

        Args:
            path: the file.

        Returns:
            The slice.
        """
        tensors, facts = read_record(path, "slice")
        return cls(tensors["coordinates"], tensors["values"], facts["norm"])

    def _figure(self) -> str:
        return curve(self.coordinates.tolist(), self.values.tolist(), "R(θ + a·u)")


@dataclass(frozen=True)
class Surface(Outcome):
    """R(θ + a·u + b·v) on a grid.

    Attributes:
        first: (P,), the a, ascending, in units of u; float64 on the CPU.
        second: (Q,), the b, ascending, in units of v; float64 on the CPU.
        values: (P, Q), the risk at (a_i, b_j) as computed, NaN and inf as they came; float64 on the CPU.
        norms: (‖u‖, ‖v‖).
        cosine: of the angle between u and v; a picture with axes at right angles is true to shape where it is 0.
    """

    first: Float[Tensor, " P"]
    second: Float[Tensor, " Q"]
    values: Float[Tensor, "P Q"]
    norms: tuple[float, float]
    cosine: float

    def save(self, path: "Path | str") -> Path:
        """Save the surface as one file: same surface, same bytes.

        Args:
            path: ending in ``.safetensors``.

        Returns:
            The file.
        """
        tensors = {"first": self.first, "second": self.second, "values": self.values}
        return write_record(path, "surface", tensors, {"norms": list(self.norms), "cosine": self.cosine})

    @classmethod
    def load(cls, path: "Path | str") -> "Surface":
        """Read a surface that was saved.

        Args:
            path: the file.

        Returns:
            The surface.
        """
        tensors, facts = read_record(path, "surface")
        norms = (facts["norms"][0], facts["norms"][1])
        return cls(tensors["first"], tensors["second"], tensors["values"], norms, facts["cosine"])

    def _figure(self) -> str:
        return heat_map(self.values.tolist(), "R(θ + a·u + b·v)")


def slice_1d(
    risk: EmpiricalRisk,
    direction: Float[Tensor, " M"],
    *,
    radius: Radius = 1.0,
    points: int = 41,
    center: "Mapping[str, Tensor] | Tensor | None" = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Slice:
    """Evaluate R(θ + a·u) for evenly spaced a.

    Only θ moves: running statistics and other buffers are the model's own at every point, and are the same afterwards.
    A value that is not finite is kept: where a network overflows is a fact about its landscape.

    Source: Goodfellow, Vinyals, Saxe 2015 (arXiv 1412.6544), section 3.

    Args:
        risk: R; its data are read once a point, never copied.
        direction: u, (M,), in the order of ``risk.parameters``: drawn, an eigenvector, the way to another network.
        radius: r for a from −r to r, or (low, high).
        points: how many a; an odd number on a symmetric range has a = 0 exactly.
        center: θ by name or as (M,); the model's own when None.
        progress: called with (points done, points in all).
        checkpoint: a folder in which values are recorded, so that the work resumes there after a kill.

    Returns:
        The slice.

    Raises:
        LiftscapeError: if a shape does not fit, the direction or the range is not finite, or the range is empty.

    Example:
        >>> x = torch.ones(4, 1, dtype=torch.float64)
        >>> net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> _ = torch.nn.init.zeros_(net.weight)
        >>> risk = EmpiricalRisk(net, "mse", (x, 0 * x))
        >>> slice_1d(risk, torch.ones(1, dtype=torch.float64), points=3).values.tolist()
        [1.0, 0.0, 1.0]
    """
    require_risk(risk, "slice_1d")
    theta, u = _center(risk, center), _direction(risk, direction)
    grid = _grid(radius, points)
    line = (theta + a * u for a in grid.tolist())
    values = evaluate(risk, line, points, [theta, u, grid], progress, checkpoint)
    return Slice(grid, values, float(u.norm()))


def slice_2d(
    risk: EmpiricalRisk,
    first: Float[Tensor, " M"],
    second: Float[Tensor, " M"],
    *,
    radius: Radius = 1.0,
    second_radius: Radius | None = None,
    points: int = 21,
    center: "Mapping[str, Tensor] | Tensor | None" = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Surface:
    """Evaluate R(θ + a·u + b·v) on a square grid of evenly spaced a and b.

    As for :func:`slice_1d`, only θ moves and values that are not finite are kept.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018 (arXiv 1712.09913), section 4.

    Args:
        risk: R; its data are read once a point, never copied.
        first: u, (M,), in the order of ``risk.parameters``.
        second: v, (M,).
        radius: r for a from −r to r, or (low, high).
        second_radius: the same for b; that of a when None.
        points: along each direction, so that its square is evaluated.
        center: θ by name or as (M,); the model's own when None.
        progress: called with (points done, points in all).
        checkpoint: a folder in which values are recorded, so that the work resumes there after a kill.

    Returns:
        The surface.

    Raises:
        LiftscapeError: as for :func:`slice_1d`, and where both directions are one line.

    Example:
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> net = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
        >>> risk = EmpiricalRisk(net, "mse", (x, x[:, :1]))
        >>> slice_2d(risk, x[0], x[1], points=3, center={"weight": x[:1]}).values.tolist()
        [[1.0, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 1.0]]
    """
    require_risk(risk, "slice_2d")
    theta, u, v = _center(risk, center), _direction(risk, first), _direction(risk, second)
    norms = float(u.norm()), float(v.norm())
    cosine = float((u / norms[0]) @ (v / norms[1])) if min(norms) > 0 else 1.0
    if abs(cosine) > 1 - 1e-6:
        raise LiftscapeError(
            f"a surface needs two independent directions, but these have norms {norms[0]:.3g} and {norms[1]:.3g} and "
            f"cosine {cosine:.6f}; draw another, or take slice_1d."
        )
    grids = _grid(radius, points), _grid(radius if second_radius is None else second_radius, points)
    plane = (row + b * v for row in (theta + a * u for a in grids[0].tolist()) for b in grids[1].tolist())
    values = evaluate(risk, plane, points**2, [theta, u, v, *grids], progress, checkpoint)
    return Surface(grids[0], grids[1], values.view(points, points), norms, cosine)


def _center(risk: EmpiricalRisk, center: "Mapping[str, Tensor] | Tensor | None") -> Float[Tensor, " M"]:
    """Return θ as a vector."""
    if not isinstance(center, Tensor):
        return risk.flatten(center).detach()
    if center.shape != (risk.size,):
        raise LiftscapeError(
            f"center must be θ by name or a vector ({risk.size},), but shape {tuple(center.shape)} was given."
        )
    return center.detach().to(risk.flatten())


def _direction(risk: EmpiricalRisk, direction: Tensor) -> Float[Tensor, " M"]:
    """Return a checked direction in the parameters' dtype, on their device."""
    check_direction(risk, direction)
    return direction.detach().to(risk.flatten())


def _grid(radius: Radius, points: int) -> Float[Tensor, " P"]:
    """Return evenly spaced coordinates, symmetric to the last bit where the range is."""
    low, high = radius if isinstance(radius, tuple) else (-radius, radius)
    if points < 2 or not (-float("inf") < low < high < float("inf")):
        raise LiftscapeError(
            f"a slice needs at least 2 points and a range low < high, but {points} points from {low} to {high} were "
            "given; radius is a positive number or (low, high)."
        )
    steps = torch.arange(points, dtype=torch.float64)
    return (steps.flip(0) * low + steps * high) / (points - 1)
