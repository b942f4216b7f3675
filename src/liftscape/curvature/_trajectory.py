"""A training trajectory in the plane that holds most of its movement, by principal components."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._sketch import curve
from liftscape.curvature._sample_files import read_record, write_record
from liftscape.derivatives import flatten
from liftscape.outcomes import LiftscapeError, Outcome

__all__ = ["Trajectory", "project_trajectory"]

# Parameters that one step of the Gram matrix takes at once, in float64.
_CHUNK = 2**18


@dataclass(frozen=True)
class Trajectory(Outcome):
    """Points of a training in the coordinates of its principal directions.

    Attributes:
        coordinates: (T, c), of each point relative to the center; float64 on the CPU.
        directions: (M, c), orthonormal, in the dtype and on the device of the points.
        center: (M,), where the coordinates are zero.
        explained: (c,), each direction's share of the summed squared distances from the center; float64.
        off_plane: (T,), each point's distance from the span of the directions, which a picture does not show.
    """

    coordinates: Float[Tensor, "T c"]
    directions: Float[Tensor, "M c"]
    center: Float[Tensor, " M"]
    explained: Float[Tensor, " c"]
    off_plane: Float[Tensor, " T"]

    def save(self, path: "Path | str") -> Path:
        """Save the trajectory as one file: same trajectory, same bytes.

        Args:
            path: ending in ``.safetensors``.

        Returns:
            The file.
        """
        return write_record(path, "trajectory", {name: getattr(self, name) for name in self.__annotations__}, {})

    @classmethod
    def load(cls, path: "Path | str") -> "Trajectory":
        """Read a trajectory that was saved.

        Args:
            path: the file.

        Returns:
            The trajectory, on the CPU.
        """
        return cls(**read_record(path, "trajectory")[0])

    def _figure(self) -> str:
        first, *rest = self.coordinates.T.tolist()
        return curve(first, rest[0], "way in the first two directions") if rest else ""


def project_trajectory(
    points: "Tensor | Iterable[Tensor | Mapping[str, Tensor]]",
    *,
    components: int = 2,
    center: Literal["last", "mean"] = "last",
) -> Trajectory:
    """Project points θ_t on the principal directions of D = (θ_t − θ_c)_t, by the eigenvectors of the T × T matrix DDᵀ.

    ``slice_2d(risk, t.directions[:, 0], t.directions[:, 1], center=t.center)`` is the surface under the trajectory.
    Memory is the T × M points, held once, a chunk of 2¹⁸ parameters of each in float64, and the result.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018 (arXiv 1712.09913), section 7.2.

    Args:
        points: (T, M), or T vectors (M,) or parameters by name, one after the other.
        components: how many directions.
        center: the last point, through which the plane then goes, or the mean of all.

    Returns:
        The trajectory.

    Raises:
        LiftscapeError: if points differ in shape, are not finite, or span fewer directions than were asked for.

    Example:
        >>> line = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
        >>> t = project_trajectory(line, components=1)
        >>> t.coordinates.flatten().tolist(), t.explained.tolist()
        ([2.0, 1.0, 0.0], [1.0])
    """
    if center not in {"last", "mean"}:
        raise LiftscapeError(f"center must be 'last' or 'mean', but {center!r} was given.")
    rows = [flatten(point).detach() if isinstance(point, Mapping) else point.detach() for point in points]
    _check(rows, components)
    middle = rows[-1].clone() if center == "last" else _mean(rows)
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=middle.device)
    for part in _chunks(middle):
        differences = _differences(rows, middle, part)
        gram += differences @ differences.T
    eigenvalues, vectors = (each.flip(-1) for each in torch.linalg.eigh(gram))
    floor = len(rows) * torch.finfo(torch.float64).eps * eigenvalues[0]
    rank = int((eigenvalues > floor).sum())
    if rank < components:
        raise LiftscapeError(
            f"{components} directions were asked for, but the {len(rows)} points span {rank} about their center; give "
            "more points or ask for fewer."
        )
    lengths, vectors = eigenvalues[:components].sqrt(), vectors[:, :components]
    # An eigenvector's sign is arbitrary: the point farthest out is on the positive side.
    farthest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = vectors * farthest.sign()
    directions = middle.new_empty(len(middle), components)
    coordinates = vectors * lengths
    squares = torch.zeros_like(gram.diagonal())
    for part in _chunks(middle):
        differences = _differences(rows, middle, part)
        along = differences.T @ (vectors / lengths)
        directions[part] = along.to(middle.dtype)
        # The remainder itself: a difference of squares leaves the root of rounding where nothing is off the plane.
        squares += (differences - coordinates @ along.T).square().sum(dim=1)
    explained = eigenvalues[:components] / gram.diagonal().sum()
    return Trajectory(coordinates.cpu(), directions, middle, explained.cpu(), squares.sqrt().cpu())


def _check(rows: list[Tensor], components: int) -> None:
    """Raise unless there are finite points of one length, enough for the components."""
    if components < 1 or len(rows) < 2:
        raise LiftscapeError(
            f"a trajectory needs at least 2 points and 1 direction, but {len(rows)} and {components} were given."
        )
    for index, row in enumerate(rows):
        if row.ndim != 1 or row.shape != rows[0].shape:
            raise LiftscapeError(
                f"points of a trajectory must be vectors of one length, but point 0 has shape {tuple(rows[0].shape)} "
                f"and point {index} {tuple(row.shape)}; give trainings of one network."
            )
        if not bool(torch.isfinite(row).all()):
            raise LiftscapeError(f"point {index} of the trajectory holds NaN or inf; stop the trajectory before it.")


def _chunks(vector: Tensor) -> list[slice]:
    """Return slices that cover a vector."""
    return [slice(start, start + _CHUNK) for start in range(0, len(vector), _CHUNK)]


def _mean(rows: list[Tensor]) -> Float[Tensor, " M"]:
    """Return the points' mean, summed in float64."""
    mean = torch.empty_like(rows[0])
    for part in _chunks(mean):
        mean[part] = torch.stack([row[part] for row in rows]).double().mean(dim=0)
    return mean


def _differences(rows: list[Tensor], middle: Tensor, part: slice) -> Float[Tensor, "T n"]:
    """Return some columns of D in float64; differences first, so that the Gram matrix does not cancel."""
    return torch.stack([row[part] for row in rows]).double() - middle[part].double()
