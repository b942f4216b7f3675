"""Where maps live while a network is folded: names move on as modules merge."""

from collections.abc import Mapping, Sequence

from torch import fx, nn

from liftscape.forward import copy_with

__all__ = ["follow", "merge", "tidied", "within_one_block"]


def merge(model: nn.Module, names: tuple[str, str, str], norm: str | None, merged: nn.Module) -> tuple[nn.Module, str]:
    """Return the model with the run replaced by one map, and that map's name.

    Args:
        model: a copy that may be changed.
        names: of the first map, the activation and the last map.
        norm: name of a BatchNorm between them, or None.
        merged: the map.

    Returns:
        The model and the name.
    """
    inner, last = [*names[:2], *(() if norm is None else (norm,))], names[2]
    (parent, _, child), keys = last.rpartition("."), {name.rpartition(".")[2] for name in (*inner, last)}
    block = model.get_submodule(parent)
    if within_one_block((*inner, last)) and type(block) is nn.Sequential:
        if set(block._modules) == keys and parent:
            return copy_with(model, {parent: merged}), parent
        for key in keys:
            # Keys of the other modules stay, so that saved weights still fit.
            block._modules.pop(key) if key != child else block._modules.update({key: merged})
        return model, last
    return copy_with(model, {**{name: nn.Identity() for name in inner}, last: merged}), last


def within_one_block(names: Sequence[str]) -> bool:
    """Tell whether modules have one parent.

    Args:
        names: of the modules.

    Returns:
        Whether they have.
    """
    return len({name.rpartition(".")[0] for name in names}) == 1


def follow(home: Mapping[str, str], name: str) -> str:
    """Return where a map lives now.

    Args:
        home: by the name of a map that moved, where it went.
        name: of a map.

    Returns:
        Its present name.
    """
    while name in home and home[name] != name:
        name = home[name]
    return name


def tidied(model: nn.Module) -> nn.Module:
    """Take out of a graph the calls of Identity that folds left; any other network stays as it is.

    Args:
        model: changed in place.

    Returns:
        The same module.
    """
    if isinstance(model, fx.GraphModule):
        for node in model.graph.nodes:
            if node.op == "call_module" and type(model.get_submodule(str(node.target))) is nn.Identity:
                node.replace_all_uses_with(node.args[0])
                model.graph.erase_node(node)
        model.delete_all_unused_submodules()
        model.recompile()
    return model
