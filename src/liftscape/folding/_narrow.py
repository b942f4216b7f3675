"""A layer without some of its neurons, which hand on constants."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from liftscape.forward import AFFINE, remade
from liftscape.linearity import Run, absorbed

__all__ = ["narrowed"]


def narrowed(
    model: nn.Module, run: Run, intercept: Float[Tensor, " width"], kept: Bool[Tensor, " width"]
) -> dict[str, nn.Module]:
    """Return the modules of a run without the neurons that leave, whose constants go into the next bias.

    Args:
        model: any module.
        run: of that module.
        intercept: μ of each neuron, what it hands on.
        kept: which neurons stay.

    Returns:
        New modules by the names of the old; a BatchNorm goes into the first map.
    """
    first, last = model.get_submodule(run.first), model.get_submodule(run.last)
    assert isinstance(first, AFFINE)
    assert isinstance(last, AFFINE)
    modules: dict[str, nn.Module] = {}
    if run.norm is not None:
        first = absorbed(first, model.get_submodule(run.norm))
        modules[run.norm] = nn.Identity()
    stay, go = (torch.nonzero(which).flatten().to(first.weight.device) for which in (kept, ~kept))
    constant = intercept.to(last.weight.device)[go]
    reached = last.weight.detach().double()[:, go]
    reached = reached.flatten(2).sum(dim=2) if reached.ndim > 2 else reached
    bias = None if last.bias is None else last.bias.detach().double()
    if bool(constant.any()):
        bias = reached @ constant + (0 if bias is None else bias)
    own_bias = None if first.bias is None else first.bias.detach()[stay]
    modules[run.first] = remade(first, first.weight.detach()[stay], own_bias)
    modules[run.last] = remade(last, last.weight.detach()[:, stay], bias)
    activation = dict(model.named_modules()).get(run.activation)
    if isinstance(activation, nn.PReLU) and activation.num_parameters > 1:
        slopes = nn.PReLU(len(stay))
        slopes.weight = nn.Parameter(activation.weight.detach()[stay], activation.weight.requires_grad)
        modules[run.activation] = slopes
    return modules
