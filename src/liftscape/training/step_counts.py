"""Steps of a training: those at which it is recorded, and that at which its loss is low enough."""

from collections.abc import Sequence
from math import inf, isfinite

__all__ = ["log_spaced", "steps_to"]


def log_spaced(steps: int, count: int) -> list[int]:
    """Return about `count` steps from 0 to the last, denser at the beginning.

    Args:
        steps: the last one.
        count: how many.

    Returns:
        Ascending, without repetitions.

    Example:
        >>> log_spaced(100, 4)
        [0, 1, 10, 100]
    """
    return sorted(
        {0, *(round(steps ** (place / (count - 2))) for place in range(count - 1))} if count > 2 else {0, steps}
    )


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
