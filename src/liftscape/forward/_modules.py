"""What a forward pass does not show of a module: ties, hooks, frozen or computed weights, an overridden forward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn.utils import parametrize

from liftscape.forward._affine import AFFINE

__all__ = ["ModuleFacts", "facts_of"]


@final
@dataclass(frozen=True)
class ModuleFacts:
    """What stands in the way of replacing a module.

    Attributes:
        name: the first one that it has.
        class_name: of its class.
        computed: of weight and bias those that are no parameters, as with a parametrization or a mask.
        hooked: whether it has forward hooks.
        gradient_hooks: its parameters whose gradients pass through hooks.
        overrides: of an affine map, whether its class has another forward than torch's.
        plain_class: of an affine map the name of torch's class.
        tied_to: the full name of a parameter of another module that is one of its own, not of its children.
        frozen: its parameters that are not trained.
    """

    name: str
    class_name: str
    computed: tuple[str, ...]
    hooked: bool
    gradient_hooks: tuple[str, ...]
    overrides: bool
    plain_class: str
    tied_to: str | None
    frozen: tuple[str, ...]

    @property
    def replaceable(self) -> bool:
        """Whether another module with the same weights computes the same."""
        return not (self.computed or self.hooked or self.overrides or self.tied_to)


def facts_of(model: nn.Module) -> Mapping[str, ModuleFacts]:
    """Return the facts of every module.

    Args:
        model: any module.

    Returns:
        By name.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> net[1].weight = net[0].weight
        >>> facts_of(net)["0"].tied_to
        '1.weight'
    """
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if isinstance(parameter, Tensor):
                owners.setdefault(id(parameter), []).append((module, f"{name}.{key}" if name else key))
    return {name: _facts(name, module, owners) for name, module in model.named_modules()}


def _facts(name: str, module: nn.Module, owners: Mapping[int, list[tuple[nn.Module, str]]]) -> ModuleFacts:
    """Return the facts of one module."""
    plain = next((kind for kind in AFFINE if isinstance(module, kind)), None)
    keys = () if plain is None else ("weight", "bias")
    elsewhere = [
        place
        for parameter in module._parameters.values()
        for owner, place in owners.get(id(parameter), ())
        if owner is not module
    ]
    return ModuleFacts(
        name,
        type(module).__name__,
        tuple(key for key in keys if parametrize.is_parametrized(module, key) or key not in module._parameters),
        bool(module._forward_hooks or module._forward_pre_hooks),
        tuple(key for key, tensor in module.named_parameters() if tensor._backward_hooks),
        plain is not None and type(module).forward is not plain.forward,
        "" if plain is None else plain.__name__,
        elsewhere[0] if elsewhere else None,
        tuple(key for key, tensor in module.named_parameters() if not tensor.requires_grad),
    )
