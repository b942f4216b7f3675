"""The layers that may become wider, and why the others may not."""

from torch import nn

from liftscape.outcomes import SiteError
from liftscape.sites import AFFINE, Affine

__all__ = ["places_of", "require_affine", "require_biases", "require_layer", "require_trainable"]


def require_layer(model: nn.Module, name: str) -> Affine:
    """Return a Linear or convolution by name, or raise.

    Args:
        model: any module.
        name: of a map in it.

    Returns:
        The map.

    Raises:
        SiteError: if the model has no such map (those it has are listed), or it is a convolution in groups.
    """
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, (nn.Linear, nn.Conv2d)):
        known = [other for other, own in model.named_modules() if isinstance(own, (nn.Linear, nn.Conv2d))]
        what = "there is none of that name" if module is None else f"it is a {type(module).__name__}"
        raise SiteError(f"'{name}' must be a Linear or Conv2d, but {what}; these are {known}.")
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise SiteError(
            f"the channels of '{name}' come in {module.groups} groups of one size, so that none can be added or leave "
            "alone; choose a layer without."
        )
    return module


def require_affine(model: nn.Module, name: str) -> Affine:
    """Return a map by name.

    Args:
        model: any module.
        name: of a Linear or convolution in it.

    Returns:
        The map.
    """
    module = model.get_submodule(name)
    assert isinstance(module, AFFINE)
    return module


def places_of(model: nn.Module, at: str, reader: str) -> int:
    """Return how many columns of a reader belong to each neuron.

    Args:
        model: any module.
        at: the layer.
        reader: the map that reads it.

    Returns:
        1, or the places of a channel that a Linear reads.

    Raises:
        SiteError: if neurons do not share its columns, or it reads channels in groups.
    """
    map_, reads = require_layer(model, at), require_affine(model, reader)
    columns = reads.weight.shape[1]
    if isinstance(reads, nn.Conv2d) and (reads.groups != 1 or columns != len(map_.weight)):
        raise SiteError(f"'{reader}' reads the channels of '{at}' in {reads.groups} groups; choose a layer without.")
    if columns % len(map_.weight):
        raise SiteError(f"'{reader}' has {columns} columns, which {len(map_.weight)} neurons of '{at}' do not share.")
    return columns // len(map_.weight)


def require_biases(model: nn.Module, at: str, readers: tuple[str, ...]) -> None:
    """Refuse a null neuron whose readers have no bias that is critical with it.

    Args:
        model: any module.
        at: the layer.
        readers: what reads it.

    Raises:
        SiteError: if one has none.
    """
    unbiased = [name for name in readers if require_affine(model, name).bias is None]
    if unbiased:
        raise SiteError(
            f"a null neuron of '{at}' is critical only if its readers' biases are, but {unbiased} have none; use split."
        )


def require_trainable(model: nn.Module, names: tuple[str, ...]) -> None:
    """Refuse maps whose weights are not the module's own trainable ones, used once in the tree.

    Args:
        model: any module.
        names: of the maps.

    Raises:
        SiteError: if one is reparametrised, hooked, tied or frozen.
    """
    parameters = [id(p) for module in model.modules() for p in module._parameters.values() if p is not None]
    for name in names:
        module = require_affine(model, name)
        own = [p for p in (module._parameters.get("weight"), module._parameters.get("bias")) if p is not None]
        if "weight" not in module._parameters:
            raise SiteError(
                f"'{name}' is reparametrised, so its neurons cannot be copied; remove the parametrisation first."
            )
        hooks = (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
            *(p._backward_hooks for p in own),
        )
        if any(hooks):
            raise SiteError(f"'{name}' has hooks, which its wider copy would not have; remove them first.")
        if any(parameters.count(id(p)) > 1 for p in own):
            raise SiteError(f"parameters of '{name}' are tied to another module; untie them and try again.")
        if any(not p.requires_grad for p in own):
            raise SiteError(f"'{name}' is frozen, so its embedding is not critical; call requires_grad_() on it.")
