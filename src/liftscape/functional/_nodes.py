"""The nodes of an autograd graph."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["new_nodes"]


def new_nodes(roots: Iterable[Any], seen: set[Any]) -> Iterator[Any]:
    """Yield the nodes of a graph that were not seen before.

    Args:
        roots: nodes to begin at; None for none.
        seen: those seen before, to which the new ones are added.

    Yields:
        Each node once.

    Example:
        >>> import torch
        >>> [type(node).__name__ for node in new_nodes([torch.ones(1, requires_grad=True).exp().grad_fn], set())]
        ['ExpBackward0', 'AccumulateGrad']
    """
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending += [parent for parent, _ in node.next_functions]
