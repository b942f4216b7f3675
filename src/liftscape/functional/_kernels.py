"""The kernels of torch that can be differentiated twice, chosen inside and restored."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import final

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Held", "twice_differentiable"]


@final
class Held:
    """A setting of the process that is another one while any thread needs it, put back by the last of them.

    Args:
        change: sets it and returns what puts it back.

    Example:
        >>> setting = [1]
        >>> def change():
        ...     setting[0] = 2
        ...     return lambda: setting.__setitem__(0, 1)
        >>> held = Held(change)
        >>> with held.needed(), held.needed():
        ...     print(setting)
        [2]
        >>> setting
        [1]
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change, self._restore = change, change
        self._lock, self._users = Lock(), 0

    @contextmanager
    def needed(self) -> Generator[None]:
        """Hold the setting while the context lasts.

        Yields:
            Nothing.
        """
        with self._lock:
            if not self._users:
                self._restore = self._change()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._restore()


@contextmanager
def twice_differentiable(model: nn.Module) -> Generator[None, None, None]:
    """Let attention and recurrent layers run on kernels that have a second derivative, while the context lasts.

    Args:
        model: the module that will be called.

    Yields:
        Nothing.
    """
    # The fused attention kernels stop at the first derivative, the encoder layer's fast path in eval mode has none.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with _SLOW_PATH.needed(), _NO_CUDNN.needed() if recurrent else nullcontext(), sdpa_kernel(SDPBackend.MATH):
        yield


def _leave_fast_path() -> Callable[[], object]:
    """Let encoder layers run as they are written."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    return lambda: torch.backends.mha.set_fastpath_enabled(before)


def _leave_cudnn() -> Callable[[], object]:
    """Let recurrent layers run without cuDNN."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    return lambda: setattr(torch.backends.cudnn, "enabled", before)


_SLOW_PATH, _NO_CUDNN = Held(_leave_fast_path), Held(_leave_cudnn)
