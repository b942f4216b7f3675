"""Functions that are called before and after modules while a context lasts."""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

__all__ = ["hooked"]

Hook = Callable[..., Any]


@contextmanager
def hooked(
    before: Iterable[tuple[nn.Module, Hook]] = (),
    after: Iterable[tuple[nn.Module, Hook]] = (),
    *,
    with_kwargs: bool = False,
    always: bool = False,
) -> Generator[None]:
    """Call functions before and after modules while the context lasts, also if it ends by an exception.

    Args:
        before: modules and what is called with the module and its arguments.
        after: modules and what is called with the module, its arguments and its output; what it returns, unless None,
            takes the place of the output.
        with_kwargs: whether keyword arguments are handed over behind the positional ones.
        always: whether what is called afterwards is called after an exception as well.

    Yields:
        Nothing.

    Example:
        >>> import torch
        >>> double = nn.Identity()
        >>> with hooked(after=[(double, lambda module, args, output: 2 * output)]):
        ...     double(torch.ones(1))
        tensor([2.])
    """
    with ExitStack() as stack:
        for module, hook in before:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=with_kwargs).remove)
        for module, hook in after:
            stack.callback(module.register_forward_hook(hook, with_kwargs=with_kwargs, always_call=always).remove)
        yield
