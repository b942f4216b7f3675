"""A monitor in somebody else's training loop: when it looks, and that the training takes the same course."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from math import isinf
from numbers import Integral
from typing import final

import torch
from torch import nn

from liftscape.outcomes import LiftscapeError
from liftscape.training import Monitor, Reading

__all__ = ["Watch", "as_numbers"]

_PREFIX = "liftscape"
_OF_A_LAYER = ("occupancy", "dead", "min_correlation", "margin")


@final
class Watch:
    """A monitor that records before every so many steps.

    Args:
        monitor: of the network, or of a part of it.
        every: optimizer steps from one record to the next.

    Raises:
        LiftscapeError: if every is no whole number of at least 1.
    """

    def __init__(self, monitor: Monitor, every: int) -> None:
        if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
            raise LiftscapeError(f"a monitor records every so many steps, a whole number of at least 1, not {every!r}.")
        self.monitor = monitor
        self._every = every
        self._next = 0

    def start(self, network: nn.Module, step: int) -> None:
        """Begin where the training begins, or goes on.

        Args:
            network: that is trained.
            step: its next one.

        Raises:
            LiftscapeError: if the monitor's network is no part of the one that is trained.
        """
        trained = _identities(network.parameters())
        if not _identities(self.monitor.risk.model.parameters()) <= trained:
            raise LiftscapeError(
                f"the monitor watches a {type(self.monitor.risk.model).__name__} with parameters that "
                f"{type(network).__name__} does not train; make it from a risk of the network that is trained."
            )
        self._next = -(-step // self._every) * self._every

    def look(self, step: int) -> dict[str, float] | None:
        """Record if it is time to.

        Args:
            step: that comes next.

        Returns:
            The reading's numbers, None where none was taken.
        """
        if step < self._next:
            return None
        self._next = (step // self._every + 1) * self._every
        with _undisturbed(self.monitor.risk.model):
            return as_numbers(self.monitor.record(step))


def as_numbers(reading: Reading) -> dict[str, float]:
    """Return a reading as plain numbers by name, as loggers take them.

    Args:
        reading: of a monitor.

    Returns:
        ``liftscape/value``, ``liftscape/gradient_norm``, both ends of the spectrum with those bounds that
        are known, and ``liftscape/NAME/occupancy``, ``dead``, ``min_correlation`` and ``margin`` of each layer.
    """
    own = {
        key: value
        for key, value in vars(reading).items()
        if key not in {"step", "layers"}
        and not isinstance(value, str)
        and not (key.endswith("_bound") and isinf(value))
    }
    layers = {f"{row.name}/{key}": getattr(row, key) for row in reading.layers for key in _OF_A_LAYER}
    return {f"{_PREFIX}/{name}": float(value) for name, value in (own | layers).items()}


@contextmanager
def _undisturbed(model: nn.Module) -> Generator[None]:
    """Put a model in eval mode for a while, and keep the random numbers of the training for the training."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(list(devices)):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def _identities(tensors: Iterable[torch.Tensor]) -> set[int]:
    """Return which tensors these are."""
    return {id(tensor) for tensor in tensors}
