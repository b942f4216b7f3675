"""Calls of torch's functions, intercepted."""

from collections.abc import Callable
from typing import Any, final

from torch.overrides import TorchFunctionMode

__all__ = ["Intercept"]


@final
class Intercept(TorchFunctionMode):
    """Hands each call of a function of torch to a handler while the context lasts; the handler's calls are its affair.

    Args:
        handle: called with the function, its positional and its keyword arguments; what it returns is the result.

    Example:
        >>> import torch
        >>> zero = torch.zeros(1)
        >>> with Intercept(lambda function, args, kwargs: function.__name__):
        ...     name = torch.relu(zero)
        >>> name
        'relu'
    """

    def __init__(self, handle: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._handle = handle

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return what the handler returns."""
        return self._handle(func, args, kwargs or {})
