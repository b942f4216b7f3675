"""Affine maps that stand next to each other in a Sequential become one."""

from collections.abc import Callable, Container, Iterator
from itertools import pairwise

from torch import nn

from liftscape.forward import AFFINE
from liftscape.functional import copy_model
from liftscape.linearity import chain_of

__all__ = ["joined_neighbours"]


def joined_neighbours(
    model: nn.Module, fresh: set[str], shared: Container[int], accept: Callable[[nn.Module, nn.Module], bool]
) -> tuple[nn.Module, tuple[tuple[str, str], ...]]:
    """Join each of some maps with an affine map before or behind it, where both are one map and that is accepted.

    Args:
        model: any module; it is left as it was.
        fresh: full names of the maps, at least one of which is in each pair.
        shared: identities of parameters that several modules hold; such maps stay.
        accept: whether the second network may take the place of the first.

    Returns:
        The network, and the pairs of names; what a pair became has the name of the last.
    """
    current, joined, names = model, list[tuple[str, str]](), set(fresh)
    refused: set[tuple[str, str]] = set()
    while (pair := next((each for each in _pairs(current, names, shared) if each not in refused), None)) is not None:
        whole = chain_of([current.get_submodule(name) for name in pair])
        changed = None if isinstance(whole, str) else _with(current, pair, whole)
        if changed is None or not accept(current, changed):
            refused.add(pair)
            continue
        current = changed
        joined.append(pair)
        names.add(pair[1])
    return current, tuple(joined)


def _pairs(model: nn.Module, fresh: set[str], shared: Container[int]) -> Iterator[tuple[str, str]]:
    """Yield the names of plain maps that follow each other in a Sequential, one of which is among the given."""
    for name, module in model.named_modules():
        if type(module) is nn.Sequential:
            keys = [key for key, child in module._modules.items() if not isinstance(child, nn.Identity)]
            for pair in pairwise(keys):
                full = (_join(name, pair[0]), _join(name, pair[1]))
                plain = all(_is_plain(module.get_submodule(key), shared) for key in pair)
                if plain and (full[0] in fresh or full[1] in fresh):
                    yield full


def _is_plain(module: nn.Module, shared: Container[int]) -> bool:
    """Tell torch's own maps without hooks whose parameters are their own."""
    free = type(module) in AFFINE and not module._forward_hooks and not module._forward_pre_hooks
    return free and "weight" in module._parameters and all(id(own) not in shared for own in module.parameters())


def _with(model: nn.Module, pair: tuple[str, str], whole: nn.Module) -> nn.Module:
    """Return a copy in which one map stands in the place of the last of two; keys of the others stay."""
    made = copy_model(model)
    block, keys = made.get_submodule(pair[1].rpartition(".")[0]), [name.rpartition(".")[2] for name in pair]
    whole.train(block.get_submodule(keys[1]).training)
    block._modules[keys[1]] = whole
    block._modules.pop(keys[0])
    return made


def _join(parent: str, key: str) -> str:
    """Return the full name of a child."""
    return f"{parent}.{key}" if parent else key
