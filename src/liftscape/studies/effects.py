"""Effect sizes over seeds, with their 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import fmean, stdev

from scipy.stats import t

__all__ = ["Effect", "effect_of", "steps_to"]

_COVERED = 0.95


@dataclass(frozen=True)
class Effect:
    """The mean of one number over independent runs.

    Attributes:
        mean: of the runs; NaN without any.
        low: lower end of its interval by Student's t; −∞ for a single run.
        high: upper end.
        count: runs.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def below_zero(self) -> bool:
        """Whether the interval lies below zero."""
        return self.high < 0

    @property
    def above_zero(self) -> bool:
        """Whether it lies above."""
        return self.low > 0

    def text(self, digits: int = 2) -> str:
        """Return mean and interval as text.

        Args:
            digits: behind the point.

        Returns:
            "mean [low, high]", or "none" without runs.
        """
        if not self.count:
            return "none"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def effect_of(values: Sequence[float]) -> Effect:
    """Return mean and interval over runs; those that are not finite are left out, and the count tells.

    Args:
        values: one for each run.

    Returns:
        The effect.

    Example:
        >>> effect_of([1.0, 2.0, 3.0]).text()
        '2.00 [-0.48, 4.48]'
    """
    kept = [value for value in values if isfinite(value)]
    if not kept:
        return Effect(nan, -inf, inf, 0)
    if len(kept) == 1:
        return Effect(kept[0], -inf, inf, 1)
    reach = float(t.ppf((1 + _COVERED) / 2, len(kept) - 1)) * stdev(kept) / len(kept) ** 0.5
    mean = fmean(kept)
    return Effect(mean, mean - reach, mean + reach, len(kept))


def steps_to(level: float, steps: "Sequence[int | float]", losses: Sequence[float]) -> float:
    """Return the step at which a loss first is at most a level, by linear interpolation; infinity if it never is.

    Args:
        level: the loss.
        steps: ascending.
        losses: one for each step.

    Returns:
        The step.

    Example:
        >>> steps_to(0.5, [0, 10, 20], [1.0, 0.6, 0.4])
        15.0
    """
    for place, loss in enumerate(losses):
        if loss <= level:
            if place == 0:
                return float(steps[0])
            before = losses[place - 1]
            share = (before - level) / (before - loss) if isfinite(before) and before > loss else 1.0
            return float(steps[place - 1] + share * (steps[place] - steps[place - 1]))
    return inf
