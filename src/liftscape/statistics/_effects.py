"""Means and medians over independent runs, with their 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import fmean, median, stdev

from scipy.stats import binom, t

__all__ = ["Effect", "effect_of", "median_of"]

_COVERED = 0.95


@dataclass(frozen=True)
class Effect:
    """The mean, or the median, of one number over independent runs.

    Attributes:
        mean: of the runs, or their median; NaN without any.
        low: lower end of its interval; −∞ for a single run.
        high: upper end.
        count: runs.
    """

    mean: float
    low: float
    high: float
    count: int

    def beyond(self, level: float = 0.0) -> int:
        """Return −1 or 1 where the interval lies below or above a level, 0 where it covers it.

        Args:
            level: the level.

        Returns:
            The side.
        """
        return -1 if self.high < level else 1 if self.low > level else 0

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


def median_of(values: Sequence[float]) -> Effect:
    """Return the median over runs with the interval of order statistics that covers it with at least 95 %.

    Args:
        values: one for each run; infinite ones count as such.

    Returns:
        The effect; its interval is the whole line where six runs are not there.

    Example:
        >>> found = median_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
        >>> found.mean, found.low, found.high
        (5.5, 2.0, 9.0)
    """
    ordered, n = sorted(values), len(values)
    out = int(binom.ppf((1 - _COVERED) / 2, n, 0.5)) if n else 0
    whole = n == 0 or 2 * binom.cdf(out - 1, n, 0.5) > 1 - _COVERED or out == 0
    low, high = (-inf, inf) if whole else (ordered[out - 1], ordered[n - out])
    return Effect(median(ordered) if n else nan, low, high, n)
