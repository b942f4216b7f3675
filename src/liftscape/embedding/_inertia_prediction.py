"""What the inertia of an embedded critical point must be."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from liftscape.outcomes import Outcome

__all__ = ["DepthLaw", "InertiaLaw", "InertiaPrediction", "as_triple"]

Range = tuple[int, int]


@dataclass(frozen=True)
class InertiaPrediction(Outcome):
    """Bounds, both included, on the inertia of the embedded point.

    Attributes:
        negative: n₋.
        zero: n₀.
        positive: n₊.
    """

    negative: Range
    zero: Range
    positive: Range

    @property
    def exact(self) -> bool:
        """Whether every bound is tight."""
        return all(low == high for low, high in (self.negative, self.zero, self.positive))

    def holds(self, inertia: Any) -> bool:
        """Tell whether a measured inertia lies within the bounds.

        Args:
            inertia: a triple, or anything with negative, zero and positive.

        Returns:
            True if each count does.
        """
        ranges = (self.negative, self.zero, self.positive)
        return all(low <= count <= high for (low, high), count in zip(ranges, as_triple(inertia), strict=True))

    def __str__(self) -> str:
        """Return the triple, with bounds as low–high."""
        ranges = (self.negative, self.zero, self.positive)
        return "(" + ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in ranges) + ")"


@runtime_checkable
class InertiaLaw(Protocol):
    """How an embedding moves the inertia."""

    def predict(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Predict the embedded inertia from that of the smaller network, and its risk where the law needs it."""
        ...


@dataclass(frozen=True)
class DepthLaw:
    """H′ = JᵀHJ: (n₋, n₀ + ΔM, n₊) for corank 0, else n± − corank ≤ n±′ ≤ n±.

    Source: theory T4, derived.

    Attributes:
        corank: M − rank J.
        added_parameters: ΔM.
    """

    corank: int
    added_parameters: int

    def predict(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Return the bounds; they are tight for corank 0.

        Args:
            inertia: (n₋, n₀, n₊) of the smaller network.
            risk: not needed by this law.

        Returns:
            The bounds.
        """
        negative, zero, positive = as_triple(inertia)
        low_negative, low_positive = max(0, negative - self.corank), max(0, positive - self.corank)
        total = negative + zero + positive + self.added_parameters
        # H restricted to an image of codimension `corank` loses at most that many of each sign.
        low_zero = max(0, total - negative - positive)
        high_zero = total - low_negative - low_positive
        return InertiaPrediction((low_negative, negative), (low_zero, high_zero), (low_positive, positive))


def as_triple(inertia: Any) -> tuple[int, int, int]:
    """Return (n₋, n₀, n₊) of a triple or of anything with those fields."""
    if isinstance(inertia, (tuple, list)):
        negative, zero, positive = inertia
        return int(negative), int(zero), int(positive)
    return inertia.negative, inertia.zero, inertia.positive
