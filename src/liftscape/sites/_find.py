"""Where in a module an affine map sits, what feeds it, what follows it, and why it is no site where it is none."""

import difflib
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from liftscape.functional import few_samples, require_module
from liftscape.outcomes import ModelError, Outcome, SiteError
from liftscape.samples import check_batch_statistics, check_repeatable
from liftscape.sites._affine import AFFINE, Affine
from liftscape.sites._attributes import attributes_read
from liftscape.sites._features import first_batch, iterate_inputs
from liftscape.sites._trace import Trace, trace_call

__all__ = ["Site", "find_sites", "require_site", "trace_first"]


@dataclass(frozen=True)
class Site(Outcome):
    """An affine map z = W h + b of a module.

    Attributes:
        name: the module's name, the first one where it has several.
        kind: ``"linear"``, ``"conv1d"`` or ``"conv2d"``.
        in_features: number of features h, of a convolution the entries of a patch in one of its groups.
        out_features: number of outputs z, or channels.
        bias: whether there is a b.
        calls: how often it is called in one forward pass.
        feature_source: the module or function that makes h; ``"input"`` for the model's own input.
        activation: the module or function that reads z first; ``"output"`` where z is the model's output.
        refusal: why no layer can be inserted here so that criticality is kept; None where one can.
    """

    name: str
    kind: str
    in_features: int
    out_features: int
    bias: bool
    calls: int
    feature_source: str
    activation: str
    refusal: str | None


def find_sites(model: nn.Module, inputs: Any) -> tuple[Site, ...]:
    """Name every affine map of a module with its feature source and following activation, by one forward pass.

    Source: Bai et al. 2022 (arXiv 2205.13283), the hypotheses of the lifting (theory 3).

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first is used.

    Returns:
        One site for each Linear, Conv1d and Conv2d module, in the order of the module tree.

    Raises:
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> import torch
        >>> sites = find_sites(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), torch.zeros(1, 2))
        >>> [(site.name, site.feature_source, site.activation) for site in sites]
        [('0', 'input', '1'), ('2', '1', 'output')]
    """
    sites = _sites_of(model, trace_first(model, inputs))
    read = attributes_read(model, [site.name for site in sites if site.refusal is None], inputs)
    return tuple(replace(site, refusal=_read_outside(read[site.name])) if site.name in read else site for site in sites)


def require_site(model: nn.Module, name: str, inputs: Any, kinds: tuple[type[nn.Module], ...] = (nn.Linear,)) -> Site:
    """Return the named site, or raise with the reason why it is none.

    Args:
        model: any module.
        name: a module's name; any of its names where it has several.
        inputs: as for :func:`find_sites`.
        kinds: of maps that will do.

    Returns:
        The site.

    Raises:
        SiteError: if there is no such module (the nearest name is offered) or no layer can be inserted there.
        ModelError: if the model is none, random, or on the meta device, or trains BatchNorm over several batches.
    """
    if name == "":
        raise SiteError(
            f"'' names the whole {type(model).__name__}; wrap it in nn.Sequential and name the map inside it."
        )
    trace = _trace_function(model, inputs)
    modules = dict(model.named_modules(remove_duplicate=False))
    sites = [site for site in _sites_of(model, trace) if isinstance(model.get_submodule(site.name), kinds)]
    if name not in modules:
        nearest = difflib.get_close_matches(name, [site.name for site in sites], n=1, cutoff=0.3)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"its affine maps are {[site.name for site in sites]}."
        raise SiteError(f"{type(model).__name__} has no module called '{name}'; {hint}")
    for site in sites:
        if model.get_submodule(site.name) is modules[name]:
            read = {} if site.refusal else attributes_read(model, [site.name], inputs)
            refusal = _read_outside(read[site.name]) if read else site.refusal
            if refusal:
                raise SiteError(f"no layer can be inserted at '{name}': {refusal}")
            return site
    what = " or ".join(kind.__name__ for kind in kinds)
    raise SiteError(
        f"'{name}' is a {type(modules[name]).__name__}, not a {what}; choose one of "
        f"{[site.name for site in sites if site.refusal is None]}."
    )


def _read_outside(attribute: str) -> str:
    """Say why a map must stay of which more is read than what it computes."""
    return (
        f"the forward pass reads its {attribute} from outside, which an inserted block does not have; read it from "
        "the inputs, or from next(model.parameters())."
    )


def _sites_of(model: nn.Module, trace: Trace) -> tuple[Site, ...]:
    """Describe the affine maps."""
    return tuple(
        _site(model, name, module, trace) for name, module in model.named_modules() if isinstance(module, AFFINE)
    )


def _trace_function(model: nn.Module, inputs: Any) -> Trace:
    """Trace a call, or raise if the features would not be the same at the next evaluation, or in another batch."""
    trace = trace_first(model, inputs)
    batches = iterate_inputs(inputs)
    check_repeatable(model, next(batches))
    check_batch_statistics(model, 1 if next(batches, None) is None else 2)
    return trace


def trace_first(model: nn.Module, inputs: Any) -> Trace:
    """Trace a call on the first samples, or on the whole first batch where the model does not take fewer.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches.

    Returns:
        The events.

    Raises:
        ModelError: if the model raises on the batch, or is none.
    """
    batch = first_batch(inputs)
    require_module(model)
    try:
        return trace_call(model, few_samples(batch))
    except ModelError:
        return trace_call(model, batch)


def _site(model: nn.Module, name: str, module: Affine, trace: Trace) -> Site:
    """Describe one affine map."""
    calls = [event for event in trace.events if event.function is module]
    source = trace.maker(calls[0].reads[0]) if calls else None
    readers = trace.readers(calls[0].makes[0]) if calls else []
    if not calls:
        follower = "never called"
    elif readers:
        follower = readers[0].name
    else:
        follower = "output"
    return Site(
        name,
        _plain(module).__name__.lower(),
        module.weight[0].numel(),
        len(module.weight),
        module.bias is not None,
        len(calls),
        source.name if source else "input",
        follower,
        _refusal(model, module, trace, len(calls)),
    )


def _refusal(model: nn.Module, module: Affine, trace: Trace, calls: int) -> str | None:
    """Say which hypothesis of the lifting fails, if one does."""
    for key in ("weight", "bias"):
        if parametrize.is_parametrized(module, key) or key not in module._parameters:
            return (
                f"its {key} is reparametrised (a parametrization, spectral or weight norm, or a mask); "
                "remove that first."
            )
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has forward hooks, which may change what it computes and would be lost; remove them first."
    hooked = [name for name, tensor in module.named_parameters() if tensor._backward_hooks]
    if hooked:
        return f"the gradient of its {' and '.join(hooked)} passes through hooks, such as a mask; remove them first."
    plain = _plain(module)
    if type(module).forward is not plain.forward:
        return f"{type(module).__name__} has a forward of its own; replace it by a plain {plain.__name__}."
    other = _tied_to(model, module)
    if other:
        return f"its parameters are tied to '{other}', so the gradient of one map alone need not vanish; untie them."
    frozen = [name for name, tensor in module.named_parameters() if not tensor.requires_grad]
    if frozen:
        return f"its {' and '.join(frozen)} is frozen, so its gradient need not vanish; set requires_grad."
    if not calls:
        return "it is never called as a module on these inputs; its weights are used by other means or not at all."
    users = [trace.readers(trace.parameters[id(tensor)]) for tensor in module.parameters()]
    user = next((events[0].name for events in users if events), None)
    if user:
        return (
            f"its parameters are also read by '{user}' outside of it, as a tied map or a penalty does, so their "
            "gradient in the map alone need not vanish; use them in the map only."
        )
    return None


def _plain(module: nn.Module) -> type[nn.Module]:
    """Return torch's own class of an affine map."""
    return next(kind for kind in AFFINE if isinstance(module, kind))


def _tied_to(model: nn.Module, module: nn.Module) -> str | None:
    """Return the full name of a parameter of another module that is one of this module's."""
    own: set[int] = {id(parameter) for parameter in module.parameters()}
    for name, other in model.named_modules():
        if other is not module:
            for key, parameter in other._parameters.items():
                if isinstance(parameter, Tensor) and id(parameter) in own:
                    return f"{name}.{key}" if name else key
    return None
