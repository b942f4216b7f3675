"""Width embeddings: splitting a neuron, and adding one that nothing reads."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.embedding._chart import ComposedChart
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._readers import find_readers
from liftscape.embedding._width_chart import WidthChart
from liftscape.embedding._width_law import ComposedLaw, NullLaw, SplitLaw
from liftscape.outcomes import EmbeddingError, Outcome, SiteError
from liftscape.risk import trainable_parameters
from liftscape.sites import copy_with

__all__ = ["WidenedSite", "add_null_neuron", "split"]


@dataclass(frozen=True)
class WidenedSite(Outcome):
    """What became wider.

    Attributes:
        name: the Linear that got one more output neuron, the last.
        readers: the Linears that got one more input.
        neuron: the neuron that was split; None for a null neuron.
        share: α, the copy's share of the neuron's output; 0 for a null neuron.
    """

    name: str
    readers: tuple[str, ...]
    neuron: int | None
    share: float


def split(model: "nn.Module | Embedding", at: str, neuron: int, share: float = 0.5, inputs: Any = None) -> Embedding:
    """Copy one neuron of a Linear and share out its output: the original keeps 1 − α, the copy takes α.

    Outputs are kept for every input, criticality for every S, loss and activation. With H₂ₛ the curvature of the fibre,
    inertia(H′) = inertia(H) + inertia(α(1−α)H₂ₛ) for α ∉ {0, 1} at a critical point; n₋ and n₊ never fall.

    Source: Zhang et al. 2021 (arXiv 2105.14573) and 2022 (arXiv 2111.15527), splitting embedding; the inertia is
    derived (theory 6).

    Args:
        model: any module, or an embedding to be widened further; it is left as it was.
        at: name of the Linear whose output neuron is split.
        neuron: its number.
        share: α, any number; 0 or 1 makes one of the two null-like, without out-weights.
        inputs: samples with which the forward pass is recorded where it cannot be traced symbolically.

    Returns:
        The embedding; its chart is w = (1−α)w₁ + αw₂, a = a₁ + a₂.

    Raises:
        EmbeddingError: if the neuron does not exist, or the share is not finite.
        SiteError: if the map is tied, reparametrised or frozen, or its neurons are read by more than Linears.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> wider = split(net, at="0", neuron=1, share=-0.5)
        >>> wider.model[0].out_features, bool((wider.model(x) - net(x)).abs().max() < 1e-12)
        (4, True)
    """
    given = model if isinstance(model, Embedding) else None
    network = given.model if given else model
    assert isinstance(network, nn.Module)
    linear = _linear(network, at)
    if not 0 <= neuron < linear.out_features:
        raise EmbeddingError(
            f"neuron must be one of the {linear.out_features} outputs of '{at}', 0 to {linear.out_features - 1}, but "
            f"{neuron} was given."
        )
    if not torch.isfinite(torch.tensor(share)):
        raise EmbeddingError(f"share must be a finite number, but {share} was given.")
    readers = find_readers(network, at, inputs)
    _check_trainable(network, (at, *readers), inputs)
    changes: dict[str, nn.Module] = {at: _with_rows(linear, [neuron])}
    for name in readers:
        reader = _linear(network, name)
        column = reader.weight.detach()[:, neuron : neuron + 1]
        weight = torch.cat([reader.weight.detach(), share * column], dim=1)
        weight[:, neuron] -= share * column[:, 0]
        changes[name] = _like(reader, weight, reader.bias)
    wider = copy_with(network, changes)
    chart = WidthChart(at, readers, neuron, share, tuple(trainable_parameters(network)))
    law = SplitLaw(at, neuron, share, _neuron_size(network, linear, readers), inputs)
    evidence = WidenedSite(at, readers, neuron, share)
    return _finish(given, Embedding(wider, copy_with(network, {}), (evidence,), chart, law))


def add_null_neuron(
    model: "nn.Module | Embedding",
    at: str,
    generator: torch.Generator | None = None,
    inputs: Any = None,
) -> Embedding:
    """Add a neuron to a Linear with zero in-weights and zero out-weights, and a bias that is drawn.

    Outputs are kept for every input. Criticality is kept because the neuron is constant: the gradient of its
    out-weights is σ(c)·∂R/∂d, which vanishes where the readers' biases d are critical, so readers need biases.

    Source: Zhang et al. 2022 (arXiv 2111.15527), null embedding.

    Args:
        model: any module, or an embedding to be widened further; it is left as it was.
        at: name of the Linear that gets the neuron.
        generator: source of its bias, on the CPU; seed 0 when None.
        inputs: samples with which the forward pass is recorded where it cannot be traced symbolically.

    Returns:
        The embedding; its chart forgets the neuron.

    Raises:
        SiteError: as for :func:`split`, or if a reader has no bias.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> bool(torch.equal(add_null_neuron(net, at="0").model(x), net(x)))
        True
    """
    given = model if isinstance(model, Embedding) else None
    network = given.model if given else model
    assert isinstance(network, nn.Module)
    linear = _linear(network, at)
    readers = find_readers(network, at, inputs)
    _check_trainable(network, (at, *readers), inputs)
    unbiased = [name for name in readers if _linear(network, name).bias is None]
    if unbiased:
        raise SiteError(
            f"a null neuron of '{at}' is critical only if its readers' biases are, but {unbiased} have none; use split."
        )
    draws = generator or torch.Generator().manual_seed(0)
    wider_map = _with_rows(linear, [0])
    with torch.no_grad():
        wider_map.weight[-1] = 0
        if wider_map.bias is not None:
            wider_map.bias[-1] = torch.randn((), generator=draws, dtype=torch.float64)
    changes: dict[str, nn.Module] = {at: wider_map}
    for name in readers:
        reader = _linear(network, name)
        changes[name] = _like(reader, nn.functional.pad(reader.weight.detach(), (0, 1)), reader.bias)
    wider = copy_with(network, changes)
    chart = WidthChart(at, readers, None, 0.0, tuple(trainable_parameters(network)))
    evidence = WidenedSite(at, readers, None, 0.0)
    return _finish(
        given,
        Embedding(wider, copy_with(network, {}), (evidence,), chart, NullLaw(_neuron_size(network, linear, readers))),
    )


def _finish(given: Embedding | None, step: Embedding) -> Embedding:
    """Compose a width step onto the embedding it was applied to."""
    if given is None:
        return step
    chart = ComposedChart(step.chart, given.chart)
    law = ComposedLaw(step.law, given.law, given.model)
    return Embedding(step.model, given.base, (*given.sites, *step.sites), chart, law)


def _check_trainable(model: nn.Module, names: tuple[str, ...], inputs: Any) -> None:
    """Refuse maps whose weights are not the module's own trainable ones, used once in the tree."""
    parameters = [id(p) for module in model.modules() for p in module._parameters.values() if p is not None]
    for name in names:
        module = _linear(model, name)
        own = [p for p in (module._parameters.get("weight"), module._parameters.get("bias")) if p is not None]
        if "weight" not in module._parameters:
            raise SiteError(
                f"'{name}' is reparametrised, so its neurons cannot be copied; remove the parametrisation first."
            )
        if any(parameters.count(id(p)) > 1 for p in own):
            raise SiteError(f"parameters of '{name}' are tied to another module; untie them and try again.")
        if any(not p.requires_grad for p in own):
            raise SiteError(f"'{name}' is frozen, so its embedding is not critical; call requires_grad_() on it.")


def _neuron_size(model: nn.Module, linear: nn.Linear, readers: tuple[str, ...]) -> int:
    """Return the number of parameters of one neuron: in-weights, bias, out-weights."""
    outgoing = sum(_linear(model, name).out_features for name in readers)
    return linear.in_features + (linear.bias is not None) + outgoing


def _linear(model: nn.Module, name: str) -> nn.Linear:
    """Return a Linear by name, or refuse."""
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Linear):
        known = [other for other, own in model.named_modules() if isinstance(own, nn.Linear)]
        what = "there is none of that name" if module is None else f"it is a {type(module).__name__}"
        raise SiteError(f"'{name}' must be a Linear, but {what}; the Linears are {known}.")
    return module


def _with_rows(linear: nn.Linear, rows: list[int]) -> nn.Linear:
    """Return a Linear with copies of some of its rows appended."""
    weight = torch.cat([linear.weight.detach(), linear.weight.detach()[rows]])
    bias = None if linear.bias is None else torch.cat([linear.bias.detach(), linear.bias.detach()[rows]])
    return _like(linear, weight, bias)


def _like(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a Linear with copies of the given values."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made
