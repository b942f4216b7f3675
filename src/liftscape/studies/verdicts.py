"""Whether effects agree with a claim, and the numbers of a row."""

from collections.abc import Iterable
from math import inf

from liftscape.statistics import Effect
from liftscape.studies.findings import Verdict

__all__ = ["as_number", "verdict_of"]


def as_number(value: "float | int | str | None") -> float:
    """Return a number of a row, where one that is not finite is kept as text, and one that is missing is infinite.

    Args:
        value: from a row.

    Returns:
        The number.

    Example:
        >>> as_number("nan"), as_number(1.5)
        (nan, 1.5)
    """
    return inf if value is None else float(value)


def verdict_of(effects: Iterable[Effect], side: int, level: float = 0.0) -> Verdict:
    """Judge whether effects lie on one side of a level, by their intervals.

    Args:
        effects: one for each setting.
        side: −1 for below, 1 for above.
        level: the level.

    Returns:
        It holds where all do, under these conditions where some do; with none it does not hold if one lies on the other
        side, and is undecided otherwise.

    Example:
        >>> from liftscape.statistics import effect_of
        >>> verdict_of([effect_of([1.0, 1.1, 1.2]), effect_of([-3.0, 1.0, 4.0])], side=1)
        'holds under these conditions'
    """
    sides = [effect.beyond(level) for effect in effects]
    if sides and all(found == side for found in sides):
        return "holds"
    if side in sides:
        return "holds under these conditions"
    return "does not hold" if -side in sides else "undecided"
