"""Sources of randomness: every `generator` argument takes a torch.Generator or the seed of one."""

import torch

from liftscape.outcomes import LiftscapeError

__all__ = ["as_generator", "as_seed"]


def as_generator(generator: torch.Generator | int | None) -> torch.Generator:
    """Return a generator on the CPU: the given one, or a new one with the given seed, 0 when None.

    Args:
        generator: a generator, whose state the caller's draws advance, or a seed, or None.

    Returns:
        The generator.

    Raises:
        LiftscapeError: if it is neither.

    Example:
        >>> bool(torch.rand(1, generator=as_generator(3)) == torch.rand(1, generator=torch.Generator().manual_seed(3)))
        True
    """
    if isinstance(generator, torch.Generator):
        return generator
    if generator is None or (isinstance(generator, int) and not isinstance(generator, bool)):
        return torch.Generator().manual_seed(generator or 0)
    raise LiftscapeError(
        f"generator must be a torch.Generator or an int as its seed, but {type(generator).__name__} was given."
    )


def as_seed(generator: torch.Generator | int | None) -> int:
    """Return a seed, for work that needs several generators: the given one, or one drawn from the given generator.

    Args:
        generator: a generator, or a seed, or None for 0.

    Returns:
        The seed.

    Raises:
        LiftscapeError: if it is neither.

    Example:
        >>> as_seed(3), as_seed(None)
        (3, 0)
    """
    if isinstance(generator, int) and not isinstance(generator, bool):
        return generator
    # Seeds that follow the first by counting must stay below 2⁶³.
    return 0 if generator is None else int(torch.randint(2**62, (), generator=as_generator(generator)))
