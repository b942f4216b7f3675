"""The volume of a lifted manifold on nested data: the share of random neurons that stay active on n samples."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.forward import Each, Neurons, Observation, stream

__all__ = ["active_shares", "relative_margin"]

# Random neurons are tested on so many samples at a time; most leave in the first block.
_BLOCK = 50


def active_shares(
    nested: Float[Tensor, "n d"],
    further: Float[Tensor, "m d"],
    sizes: Sequence[int],
    draws: int,
    generator: torch.Generator,
) -> list[float]:
    """Return p(S_n) for each size n: the share of neurons (a, −a·h₀) that are active on the first n samples.

    One draw of neurons is tested on all sizes; a is normal, and h₀ one of the further samples for each neuron. The
    mean of p(S_n) over independent samples is 1/(n + 1).

    Source: theory, Volume; derived.

    Args:
        nested: the samples, as many as the largest size.
        further: from which h₀ is drawn.
        sizes: ascending.
        draws: neurons.
        generator: on the CPU, of a and h₀.

    Returns:
        One share for each size.

    Example:
        >>> h = torch.linspace(-1, 1, 9)[:, None]
        >>> active_shares(h[::2], h[1::2], [1, 5], 100, torch.Generator().manual_seed(0))[1]
        0.0
    """
    a = torch.randn(draws, nested.shape[1], generator=generator).to(nested.device)
    chosen = torch.randint(len(further), (draws,), generator=generator).to(nested.device)
    threshold = (a * further[chosen]).sum(dim=1)
    largest = sizes[-1]
    lasting = torch.full((draws,), largest, device=nested.device)
    alive = torch.arange(draws, device=nested.device)
    for start in range(0, largest, _BLOCK):
        inactive = a[alive] @ nested[start : start + _BLOCK].T <= threshold[alive, None]
        first = start + inactive.int().argmax(dim=1)
        gone = inactive.any(dim=1)
        lasting[alive[gone]] = first[gone]
        alive = alive[~gone]
    return [float((lasting >= n).double().mean()) for n in sizes]


def relative_margin(model: nn.Module, names: list[str], x: Tensor) -> float:
    """Return the least pre-activation of the inserted neurons in units of their standard deviation.

    Args:
        model: the lifted network.
        names: of the inserted activations.
        x: inputs.

    Returns:
        The margin; negative where a neuron has left the active piece.
    """
    least: list[float] = []

    def receive(seen: Observation) -> None:
        t = seen.tensor
        least.append(float((t.amin(dim=0) / t.std(dim=0).clamp_min(1e-12)).min()))

    stream(model, x, [Each(Neurons(names), receive)])
    return min(least)
