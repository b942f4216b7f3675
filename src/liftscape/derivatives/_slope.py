"""Whether a number is certainly not the derivative of a function of one variable that is rounded and may have kinks."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import final

__all__ = ["Line", "certainly_not"]

# From where rounding and curvature balance outwards, both ways.
_STEPS = (1e-6, 1e-5, 1e-7, 1e-4, 1e-8, 1e-3, 1e-9, 1e-2, 1e-10, 1e-11, 1e-12, 1e-13)
# Up to this share numbers agree, also where what is rounded inside to single precision blurs them.
_AGREES = 1e-4
_NUDGES = 3
# Where rounding of values is measured, and how many times its own rounding what a number lacks must be.
_MEASURED, _BLURRED = (0.0, 1e-2, -1e-2), 10.0
# Rounding of numbers of size 1.
_DOUBLE, _SINGLE = 8 * 2.0**-52, 8 * 2.0**-23
# Steps at which differences are the same, by this share of what they lack; and the share of it that none of the larger
# steps may come down to, as where values have stairs of rounding.
_SAME, _CLEAR, _NEARER = 0.25, 0.125, 0.1
# Stairs that are as wide as this are no rounding.
_STAIR = 1e-3


@final
@dataclass(frozen=True)
class Line:
    """A function along a line.

    Attributes:
        value: f(t), and with a number i > 0 that of numbers moved by rounding in another way.
        claimed: what is said to be f′(0).
        size: of numbers that f is computed from, in its units.
        blur: the largest difference that random rounding makes to the number claimed.
    """

    value: Callable[..., float]
    claimed: float
    size: float = 0.0
    blur: Callable[[], float] = lambda: 0.0


def certainly_not(line: Line) -> tuple[float, float] | None:
    """Tell whether a number is not f′(0) for certain, by differences (f(h) − f(−h)) / 2h at twelve steps h.

    Rounding of both is measured where results of every operation are moved by it. It may be, if differences at any step
    agree with it within their rounding or to 1e-4. Otherwise it is not, if they
    agree with each other at two neighbouring steps, and rounding is far below what they lack there. A kink nearer than
    the least step may deceive it, which a random point avoids but for a chance of that step.

    Source: derived.

    Args:
        line: f with the number.

    Returns:
        Difference and number where it is not the derivative, None where it may be.

    Example:
        >>> certainly_not(Line(lambda t, nudge=0: (1 + t) ** 2, 2.0))
        >>> [round(number, 6) for number in certainly_not(Line(lambda t, nudge=0: (1 + t) ** 2, 1.0))]
        [2.0, 1.0]
    """
    value = line.value(0.0)
    if not (isfinite(value) and isfinite(line.claimed)):
        return None
    slopes: dict[float, float] = {}
    for step in _STEPS:
        slope = line.value(step) / (2 * step) - line.value(-step) / (2 * step)
        if not isfinite(slope):
            continue
        gap, either = abs(slope - line.claimed), max(abs(slope), abs(line.claimed))
        if either > 0 and gap <= _AGREES * either:
            return None
        slopes[step] = slope
    noise = max(_noise(line, value), _stair(slopes))
    size = max(line.size, abs(value))
    rounding = {step: noise / step for step in slopes}
    agreeing = [rounding[step] for step, slope in slopes.items() if abs(slope - line.claimed) <= rounding[step]]
    for step, slope in slopes.items():
        below = next((other for other in slopes if 0.05 * step < other < 0.5 * step), None)
        if below is None:
            continue
        lack = min(abs(slopes[each] - line.claimed) for each in (step, below))
        if not (slope or slopes[below]) and _SINGLE * size > _CLEAR * lack * max(_STEPS):
            continue  # what is rounded inside to single precision is flat, too
        clear = _CLEAR * lack
        # What agrees where rounding is as large as the lack says nothing.
        same = abs(slope - slopes[below]) <= _SAME * lack and rounding[below] <= clear < min(agreeing, default=inf)
        nearer = any(abs(slopes[other] - line.claimed) <= _NEARER * lack for other in slopes if other > step)
        if same and not nearer and lack > _BLURRED * line.blur():
            return slopes[below], line.claimed
    return None


def _noise(line: Line, value: float) -> float:
    """Return what rounding makes of f near 0."""
    largest = 0.0
    for shift in _MEASURED:
        # Farther away f need not be finite.
        values = [value if shift == 0 else line.value(shift), *(line.value(shift, 1 + draw) for draw in range(_NUDGES))]
        spread = max(values) - min(values)
        if isfinite(spread):
            largest = max(largest, spread)
        elif shift == 0:
            return inf
    return 4 * largest + _DOUBLE * max(line.size, abs(value))


def _stair(slopes: dict[float, float]) -> float:
    """Return the height of the first step of a function that is flat at smaller ones, zero where it has no stairs."""
    flat = False
    for step, slope in sorted(slopes.items()):
        if slope and flat and step <= _STAIR:
            return abs(2 * step * slope)
        flat = flat or not slope
    return 0.0
