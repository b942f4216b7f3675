"""What an adapter offers: the tasks, each as a user of that tool would write it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.work import Work

__all__ = ["NotOfferedError", "Peer", "split"]


class NotOfferedError(Exception):
    """The tool has no such function."""


def split(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return a vector (M,) as tensors of the parameters' shapes."""
    parts = vector.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


class Peer:
    """The tasks of one tool.

    `efforts` lists for a task the settings to try, from cheap to dear, until the error is small enough.
    """

    efforts: ClassVar[dict[str, Sequence[float]]] = {}
    # Bytes of the vectors that the last task stored, where the tool tells.
    stored = 0

    def __init__(self, work: Work) -> None:
        self.work = work
        torch.manual_seed(0)

    def product(self, vector: Tensor) -> Tensor:
        """Return the Hessian times a vector (M,)."""
        raise NotOfferedError("no product")

    def renew(self) -> None:
        """Undo between two products what a mode without a kept graph must not keep; not timed."""

    def top(self, k: int, effort: float) -> Tensor:
        """Return the k largest eigenvalues."""
        raise NotOfferedError("no largest eigenvalues")

    def bottom(self, k: int, effort: float) -> Tensor:
        """Return the k smallest eigenvalues."""
        raise NotOfferedError("no smallest eigenvalues, only those of largest magnitude")

    def trace(self, probes: int) -> float:
        """Return Hutchinson's estimate with so many products."""
        raise NotOfferedError("no trace")

    def density(self, steps: int) -> float:
        """Return the mean eigenvalue under the density from one run of so many Lanczos steps."""
        raise NotOfferedError("no density")

    def surface(self, first: Tensor, second: Tensor, points: int) -> Tensor:
        """Return the loss on a square grid of radius 1 along two directions (M,)."""
        raise NotOfferedError("no surface")
