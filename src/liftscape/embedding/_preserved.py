"""Outputs kept and g′ = Jᵀg for an arbitrary residual, by running both networks before an embedding is returned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp
from torch.utils._pytree import tree_leaves, tree_map_only

from liftscape.embedding._chart import Chart
from liftscape.forward import first_batch, iterate_inputs
from liftscape.functional import MODEL_ERRORS, call_model, inputs_named, named_tensors, trainable_parameters
from liftscape.outcomes import ModelError, SiteError
from liftscape.sites import drawing_alike

__all__ = ["Beside", "outputs_off", "require_preserved"]

# Enough to tell networks apart; a gradient over a whole batch may take more memory than the embedding.
_SAMPLES = 32
# Rounding is measured by moving weights by an ulp, and this multiple of it is allowed, beside ulps of the values.
_NUDGES, _TIMES, _ULPS = 4, 100, 1000

Tensors = dict[str, Tensor]
# From samples and g′: what g′ has on them beside Jᵀg, as the out-weights of a constant neuron have.
Beside = Callable[[Any, Tensors], Tensors]


@dataclass(frozen=True)
class _Reaction:
    """What a network returns, numbers beside its tensors, and the gradient of one linear functional of the tensors."""

    outputs: Tensors
    numbers: tuple[Any, ...]
    gradient: Tensors


def require_preserved(
    base: nn.Module, larger: nn.Module, chart: Chart, inputs: Any, what: str, beside: Beside | None = None
) -> None:
    """Raise unless outputs are kept and g′ = Jᵀg, g the gradient of a random linear functional of the outputs.

    A forward pass may read sizes, parameters or state of a layer that changes, which is seen by running it. The
    functional stands for whatever residual a loss hands to the outputs, so that every loss keeps its critical points.

    Args:
        base: the smaller network.
        larger: the network made from it.
        chart: π.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first is used: all of it for the
            outputs, few samples for gradients where the model takes few.
        what: what was made, such as "the split of '0'", for the error.
        beside: what g′ has beside Jᵀg.

    Raises:
        SiteError: if one of them fails.
        ModelError: if the smaller network raises on the inputs.
    """
    own = dict(larger.named_parameters())
    lost = [name for name, p in base.named_parameters() if p._backward_hooks and name in own and own[name] is not p]
    if lost:
        raise SiteError(
            f"the gradient of {lost[0]} passes through hooks, such as a mask, which {what} would not have; remove them "
            "first."
        )
    batch = first_batch(inputs)
    few = _few(batch)
    try:
        before = _react(base, few, gradient=True)
    except (*MODEL_ERRORS, ModelError):
        few = batch
        with inputs_named(base, batch):
            before = _react(base, batch, gradient=True)
    try:
        after, nudged = _react(larger, few, gradient=True), _react(larger, few, gradient=True, nudge=0)
        _require_outputs(before, after, (after, nudged), what)
        if few is not batch:
            _require_outputs(_react(base, batch), _react(larger, batch), (after, nudged), what)
    except SiteError:
        raise
    except (*MODEL_ERRORS, ModelError) as error:
        detail = " ".join(str(error).split()).rstrip(".")[:200]
        raise SiteError(f"{what} does not run where the given network does ({detail}); {_ADVICE}") from error
    if before.gradient:
        added = beside(few, after.gradient) if beside else {}
        _require_gradient(base, larger, chart, few, (before, after, nudged), added, what)


def outputs_off(base: nn.Module, larger: nn.Module, inputs: Any, tolerance: float) -> float | None:
    """Return by how much outputs on data differ, None where it is by no more than a tolerance and rounding.

    Args:
        base: a network.
        larger: one that should compute the same.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches.
        tolerance: relative to the largest value of each output.

    Returns:
        The largest difference.
    """
    worst: float | None = None
    for batch in iterate_inputs(inputs):
        before, after, nudged = _react(base, batch), _react(larger, batch), _react(larger, batch, nudge=0)
        for name, tensor in before.outputs.items():
            theirs = after.outputs[name]
            rounding = (theirs - nudged.outputs[name]).abs() if tensor.is_floating_point() else 0.0 * tensor
            allowed = tolerance * _by_output(tensor.abs()) + _TIMES * _by_output(rounding)
            gap = torch.where(tensor == theirs, 0.0, (tensor - theirs).abs())
            if not bool((gap <= allowed).all()):
                worst = max(worst or 0.0, float(gap.max()))
    return worst


def _by_output(values: Tensor) -> Tensor:
    """Return the largest value of each output over the samples."""
    return values.flatten(0, -2).amax(dim=0) if values.ndim > 1 and values.numel() else values.amax()


_ADVICE = (
    "the forward pass reads more of the layer than what its neurons do one by one, or as blocks of features, such as "
    "its size, parameters or state; choose another layer."
)


def _require_outputs(before: _Reaction, after: _Reaction, rounding: tuple[_Reaction, _Reaction], what: str) -> None:
    """Raise unless all that a network returns is kept but for rounding, which tells two of its outputs apart."""
    same = before.outputs.keys() == after.outputs.keys() and len(before.numbers) == len(after.numbers)
    same = same and all(after.outputs[name].shape == tensor.shape for name, tensor in before.outputs.items())
    if not same:
        raise SiteError(f"{what} would return tensors of other names or shapes; {_ADVICE}")
    for name, tensor in before.outputs.items():
        # Integers that follow from real numbers, as classes do, may change with rounding.
        allowed = _TIMES * _largest(rounding[0].outputs[name], rounding[1].outputs[name]) + _floor(tensor)
        if not (gap := _largest(tensor, after.outputs[name])) <= allowed:
            raise SiteError(f"{what} would change outputs by {gap:.1e}; {_ADVICE}")
    for ours, theirs, other in zip(before.numbers, after.numbers, rounding[1].numbers, strict=True):
        if isinstance(ours, (int, float, complex)) and isinstance(theirs, (int, float, complex)):
            far = abs(ours - theirs) > _TIMES * abs(theirs - other) + _ULPS * torch.finfo(torch.float64).eps * abs(ours)
        else:
            far = ours != theirs
        if far:
            raise SiteError(f"{what} would return {theirs!r} where the given network returns {ours!r}; {_ADVICE}")


def _require_gradient(
    base: nn.Module,
    larger: nn.Module,
    chart: Chart,
    few: Any,
    reactions: tuple[_Reaction, _Reaction, _Reaction],
    added: Mapping[str, Tensor],
    what: str,
) -> None:
    """Raise unless g′ = Jᵀg but for rounding, which is measured by moving the weights of both networks by an ulp."""
    before, after, nudged = (reaction.gradient for reaction in reactions)
    params = {name: tensor.detach() for name, tensor in trainable_parameters(larger).items()}
    pull = vjp(chart.project, params)[1]
    expected: Tensors = pull(before)[0]
    wanted = {name: expected[name] + added[name] if name in added else expected[name] for name in after}
    gaps = {name: _largest(wanted[name], tensor) for name, tensor in after.items()}
    allowed = {name: max(_floor(tensor), _floor(wanted[name])) for name, tensor in after.items()}
    # A sum that cancels may err by more than what one move shows.
    for seed in range(_NUDGES):
        theirs = nudged if seed == 0 else _react(larger, few, gradient=True, nudge=seed).gradient
        ours: Tensors = pull(_react(base, few, gradient=True, nudge=seed).gradient)[0]
        for name in allowed:
            allowed[name] += _TIMES * (_largest(ours[name], expected[name]) + _largest(theirs[name], after[name]))
        if all(gap <= allowed[name] for name, gap in gaps.items()):
            return
    worst = next(name for name, gap in gaps.items() if not gap <= allowed[name])
    raise SiteError(
        f"{what} would keep outputs but not critical points: for an arbitrary residual the gradient of {worst} "
        f"is off by {gaps[worst]:.1e}, as where padding hides a constant or a parameter is read elsewhere; choose "
        "another layer."
    )


def _react(network: nn.Module, batch: Any, gradient: bool = False, nudge: int | None = None) -> _Reaction:
    """Run a network, its weights moved by an ulp up or down where a seed is given, and differentiate a functional."""
    params = {name: tensor.detach() for name, tensor in trainable_parameters(network).items()}
    if nudge is not None:
        draws = torch.Generator().manual_seed(nudge)
        params = {name: _nudged(tensor, draws) for name, tensor in params.items()}
    leaves = {name: tensor.requires_grad_() for name, tensor in params.items()} if gradient else params
    with torch.set_grad_enabled(gradient), drawing_alike(network):
        returned = call_model(network, leaves, batch)
        outputs = named_tensors(returned)
        numbers = tuple(leaf for leaf in tree_leaves(returned) if isinstance(leaf, (int, float, complex, str)))
        terms = []
        if gradient:
            draws = torch.Generator().manual_seed(0)
            for tensor in outputs.values():
                residual = torch.randn(tensor.shape, generator=draws, dtype=torch.float64)
                if tensor.requires_grad and tensor.is_floating_point():
                    terms.append((tensor * residual.to(tensor)).sum())
        found: Tensors = {}
        if terms:
            total = torch.stack([term.to(terms[0]) for term in terms]).sum()
            parts = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
            found = dict(zip(leaves, parts, strict=True))
    return _Reaction({name: tensor.detach() for name, tensor in outputs.items()}, numbers, found)


def _nudged(tensor: Tensor, draws: torch.Generator) -> Tensor:
    """Return a tensor with each entry moved by an ulp."""
    signs = torch.empty(tensor.shape).bernoulli_(generator=draws).to(tensor)
    return tensor * (1 + torch.finfo(tensor.dtype).eps * (2 * signs - 1))


def _few(batch: Any) -> Any:
    """Return the first samples of a batch, or the batch where its tensors differ in length."""
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)}
    if len(sizes) != 1 or max(sizes) <= _SAMPLES:
        return batch
    return tree_map_only(Tensor, lambda leaf: leaf[:_SAMPLES], dict(batch) if isinstance(batch, Mapping) else batch)


def _largest(first: Tensor, second: Tensor) -> float:
    """Return the largest difference; what is the same, infinite or not a number, has none."""
    if not first.numel():
        return 0.0
    same = (first == second) | ((first != first) & (second != second))
    gap = torch.where(same, 0.0, (first.to(second) - second if first.is_floating_point() else first.double() - second))
    return float(gap.abs().max())


def _floor(tensor: Tensor) -> float:
    """Return the tolerance in ulps of the largest entry."""
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0.0
    finite = torch.where(torch.isfinite(tensor), tensor.abs(), 0.0)
    return _ULPS * torch.finfo(tensor.dtype).eps * float(finite.max())
