"""Where in a module an affine map sits, what feeds it, what follows it, and why it is no site where it is none."""

import difflib
from dataclasses import dataclass
from typing import Any

from torch import nn

from liftscape.forward import AFFINE, Affine, ForwardPass, head_of, record, refusal_of
from liftscape.outcomes import Outcome, SiteError
from liftscape.samples import check_batch_statistics, check_repeatable

__all__ = ["Site", "find_sites", "require_site"]


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
    return _sites_of(record(model, inputs))


def require_site(
    model: nn.Module, name: str, inputs: Any, kinds: tuple[type[nn.Module], ...] = (nn.Linear,)
) -> tuple[Site, ForwardPass]:
    """Return the named site with the forward pass around it, or raise with the reason why it is none.

    Args:
        model: any module.
        name: a module's name; any of its names where it has several.
        inputs: as for :func:`find_sites`, or the head of such data.
        kinds: of maps that will do.

    Returns:
        The site, and the recorded pass.

    Raises:
        SiteError: if there is no such module (the nearest name is offered) or no layer can be inserted there.
        ModelError: if `model` is not an nn.Module, is random or on the meta device, or trains BatchNorm over several
            batches.
    """
    if name == "":
        raise SiteError(
            f"'' names the whole {type(model).__name__}; wrap it in nn.Sequential and name the map inside it."
        )
    head = head_of(inputs)
    passed = record(model, head)
    # The features must be the same at the next evaluation, and in another batch.
    check_repeatable(model, head.first)
    check_batch_statistics(model, 2 if head.several else 1)
    modules = dict(model.named_modules(remove_duplicate=False))
    sites = [site for site in _sites_of(passed) if isinstance(model.get_submodule(site.name), kinds)]
    if name not in modules:
        nearest = difflib.get_close_matches(name, [site.name for site in sites], n=1, cutoff=0.3)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"its affine maps are {[site.name for site in sites]}."
        raise SiteError(f"{type(model).__name__} has no module called '{name}'; {hint}")
    for site in sites:
        if model.get_submodule(site.name) is modules[name]:
            if site.refusal:
                raise SiteError(f"no layer can be inserted at '{name}': {site.refusal}")
            return site, passed
    what = " or ".join(kind.__name__ for kind in kinds)
    raise SiteError(
        f"'{name}' is a {type(modules[name]).__name__}, not a {what}; choose one of "
        f"{[site.name for site in sites if site.refusal is None]}."
    )


def _sites_of(passed: ForwardPass) -> tuple[Site, ...]:
    """Describe the affine maps."""
    return tuple(
        _site(passed, name, module) for name, module in passed.model.named_modules() if isinstance(module, AFFINE)
    )


def _site(passed: ForwardPass, name: str, module: Affine) -> Site:
    """Describe one affine map."""
    calls = passed.calls_of(module)
    source = passed.maker(calls[0].reads[0]) if calls else None
    readers = passed.readers(calls[0].makes[0]) if calls else []
    if not calls:
        follower = "never called"
    elif readers:
        follower = readers[0].name
    else:
        follower = "output"
    return Site(
        name,
        passed.facts[name].plain_class.lower(),
        module.weight[0].numel(),
        len(module.weight),
        module.bias is not None,
        len(calls),
        source.name if source else "input",
        follower,
        refusal_of(passed, name),
    )
