"""Published criteria by which layers are chosen to leave: entropy of states, influence of a block."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.forward import Each, Neurons, Observation, Pairs, stream
from liftscape.linearity._occupancy import activation_modules

__all__ = ["block_influence", "state_entropy"]


def state_entropy(model: nn.Module, inputs: Any, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return for each activation the mean entropy of its neurons' states, on or off: −p log₂ p − (1−p) log₂(1−p).

    p is the share of samples on which a neuron's pre-activation is above 0; of a convolution the places of a channel
    are samples. A layer with entropy 0 has each neuron in one state.

    Source: Liao et al. 2024 (arXiv 2404.16890), NEPENTHE; Quétu et al. 2024 (arXiv 2404.18949), EASIER.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        names: activation modules; all of them when None.

    Returns:
        Bits between 0 and 1 by the activation's name.

    Raises:
        SiteError: if a named module is never called.

    Example:
        >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> state_entropy(net, torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        {'1': 0.5}
    """
    chosen = list(activation_modules(model)) if names is None else list(names)
    counts: dict[str, int] = dict.fromkeys(chosen, 0)
    on: dict[str, Tensor] = {}

    def receive(seen: Observation) -> None:
        active = (seen.tensor > 0).sum(dim=0).double()
        on[seen.name] = on[seen.name] + active if seen.name in on else active
        counts[seen.name] += len(seen.tensor)

    stream(model, inputs, [Each(Neurons(chosen), receive)])
    return {name: float(_entropy(on[name] / counts[name]).mean()) for name in chosen}


def block_influence(model: nn.Module, blocks: Sequence[tuple[str, str]], inputs: Any) -> dict[tuple[str, str], float]:
    """Return for each block 1 − E cos(x, y), x what reaches its first module and y what leaves its last.

    Source: Men et al. 2024 (arXiv 2403.03853), ShortGPT; there for the tokens of a transformer, here for whole samples.

    Args:
        model: any module; it is left as it was.
        blocks: names of first and last modules, equal for a block that is one module.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.

    Returns:
        Numbers between 0 and 2 by block; NaN where x and y have different sizes.

    Raises:
        SiteError: if a last module is never called after its first.

    Example:
        >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> round(block_influence(net, [("1", "1")], torch.tensor([[1.0, 0.0], [1.0, -1.0]]))["1", "1"], 3)
        0.146
    """
    sums: dict[tuple[str, str], float] = dict.fromkeys(blocks, 0.0)
    counts: dict[tuple[str, str], int] = dict.fromkeys(blocks, 0)

    def receive(seen: Observation) -> None:
        assert seen.output is not None
        pair, x, y = seen.pair, seen.tensor, seen.output
        same = x.shape == y.shape
        cosines = nn.functional.cosine_similarity(x.double().flatten(1), y.double().flatten(1)) if same else None
        sums[pair] += float("nan") if cosines is None else float(cosines.sum())
        counts[pair] += len(x)

    stream(model, inputs, [Each(Pairs(list(blocks)), receive)])
    return {pair: 1 - sums[pair] / counts[pair] for pair in blocks}


def _entropy(p: Float[Tensor, " neurons"]) -> Float[Tensor, " neurons"]:
    """Return the binary entropy in bits."""
    return -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)) / log(2)
