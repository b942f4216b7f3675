"""How far a fold's outputs are from the network's: on data, and wherever an ascent finds them to differ most."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape.functional import require_module
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.sites import iterate_inputs, outputs_of

__all__ = ["Sameness", "search_difference"]

_RATE = 0.05


@dataclass(frozen=True)
class Sameness(Outcome):
    """The largest difference that a search found.

    Attributes:
        gap: max |f − g| / max |f|, the latter on the data.
        example: the input at which it was found.
        start: the same at the best start.
    """

    gap: float
    example: Float[Tensor, "..."]
    start: float


def search_difference(
    first: nn.Module,
    second: nn.Module,
    inputs: Any,
    *,
    starts: int = 16,
    steps: int = 100,
    generator: torch.Generator | int | None = None,
) -> Sameness:
    """Search the box of the data for the input at which two networks differ most.

    x ← clip(x + η·(u − l)·sign ∇‖f₁(x) − f₂(x)‖²), l and u the least and largest entries of the data, from samples of
    the data and as many points drawn uniformly, since samples may all lie where both agree; the step falls to zero.
    What is found is a lower bound of the largest difference, no proof that there is none.

    Source: Madry et al. 2018 (arXiv 1706.06083), projected gradient ascent.

    Args:
        first: a network.
        second: another one.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches of tensors.
        starts: samples that it starts from, and points beside them.
        steps: of each ascent.
        generator: chooses the samples and the points; seed 0 when None.

    Returns:
        The difference with its input.

    Raises:
        LiftscapeError: if inputs are no tensors of floating-point numbers, or there is no start or step.

    Example:
        >>> x = torch.linspace(0.5, 1, 9)[:, None]
        >>> found = search_difference(nn.Identity(), nn.Hardtanh(-1.0, 0.9), x)
        >>> round(found.gap, 3), found.example.tolist()
        (0.1, [1.0])
    """
    if starts < 1 or steps < 1:
        raise LiftscapeError(f"starts and steps must be at least 1, but {starts} and {steps} were given.")
    for network in (first, second):
        require_module(network)
    low, high, scale, pool = _box(first, inputs, starts, generator)
    reach = high - low
    # A kink of one network may hide the slope of the difference; a little noise does not stay on it.
    draws = as_generator(generator)
    x = torch.cat([pool, low + torch.rand((starts, *low.shape), generator=draws).to(low) * reach])
    best, example = -1.0, pool[0]
    start = float("nan")
    for step in range(steps + 1):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            difference = outputs_of(first, x, grad=True) - outputs_of(second, x, grad=True)
            each = difference.detach().flatten(1).abs().amax(dim=1)
            # A network that does not see its input has no slope.
            seen = difference.requires_grad
            slope = torch.autograd.grad(difference.square().sum(), x)[0] if seen else torch.zeros_like(x)
        if step == 0:
            start = float(each.max())
        if float(each.max()) > best:
            best, example = float(each.max()), x.detach()[int(each.argmax())].clone()
        noise = torch.rand(x.shape, generator=draws).to(x) * 2 - 1
        direction = torch.where(slope == 0, noise, slope.sign())
        with torch.no_grad():
            x = torch.minimum(torch.maximum(x + _RATE * (1 - step / steps) * reach * direction, low), high)
    return Sameness(best / scale, example, start / scale)


def _box(
    model: nn.Module, inputs: Any, starts: int, generator: torch.Generator | int | None
) -> tuple[Tensor, Tensor, float, Tensor]:
    """Return the least and largest entries of the data, the largest output, and some samples."""
    low = high = pool = None
    scale = 0.0
    draws = as_generator(generator)
    for batch in iterate_inputs(inputs):
        if not isinstance(batch, Tensor) or not batch.is_floating_point():
            raise LiftscapeError(
                f"a search for a difference moves inputs along a slope, but {type(batch).__name__} was given; give "
                "tensors of floating-point numbers."
            )
        low = batch.amin(dim=0) if low is None else torch.minimum(low, batch.amin(dim=0))
        high = batch.amax(dim=0) if high is None else torch.maximum(high, batch.amax(dim=0))
        chosen = batch[torch.randperm(len(batch), generator=draws)[:starts].to(batch.device)]
        pool = chosen if pool is None else torch.cat([pool, chosen])
        scale = max(scale, float(outputs_of(model, batch).abs().max()))
    if low is None or high is None or pool is None:
        raise LiftscapeError("a search for a difference needs inputs, but the given data hold no batch; give some.")
    order = torch.randperm(len(pool), generator=draws)[:starts].to(pool.device)
    return low, high, max(scale, torch.finfo(pool.dtype).tiny), pool[order]
