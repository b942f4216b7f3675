"""How bytes grow with the number of samples, from three measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "growth_through"]


@dataclass(frozen=True)
class Growth:
    """Bytes as a function of the number n of samples, a + b n + c n², c for losses that compare samples in pairs.

    Attributes:
        fixed: a, whatever the number of samples.
        per_sample: b.
        per_pair: c.
    """

    fixed: float
    per_sample: float
    per_pair: float = 0.0

    def __call__(self, samples: int, batches: int = 1, largest: int | None = None) -> float:
        """Return the bytes for so many samples.

        Args:
            samples: of all batches together.
            batches: their number.
            largest: samples of the largest one; all of them when None.

        Returns:
            Bytes, at most; pairs are of one batch.
        """
        pairs = samples * (samples if largest is None else largest)
        return self.fixed * batches + self.per_sample * samples + self.per_pair * pairs


def growth_through(samples: Sequence[int], measured: Sequence[int], stretch: float = 1.0) -> Growth:
    """Return the growth through three measurements, or above them where no growth passes through them.

    Args:
        samples: three numbers, ascending.
        measured: the bytes for each.
        stretch: how many times as much as the measured ones a sample may hold.

    Returns:
        The growth, none of whose terms is negative.

    Example:
        >>> growth_through([2, 4, 8], [100 + n + 3 * n**2 for n in (2, 4, 8)])
        Growth(fixed=100.0, per_sample=1.0, per_pair=3.0)
    """
    (few, more, most), (low, middle, high) = samples, measured
    slope = (middle - low) / (more - few)
    bend = ((high - middle) / (most - more) - slope) / (most - few)
    if bend < 0:
        slope, bend = max(0.0, (high - low) / (most - few)), 0.0
    fixed = max(0.0, low - slope * few + bend * few * more)
    return Growth(fixed, max(0.0, slope - bend * (few + more)) * stretch, bend)
