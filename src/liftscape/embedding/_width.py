"""The two width embeddings of a single neuron: splitting one, and adding one that nothing reads."""

from typing import Any

import torch
from torch import nn

from liftscape.embedding._embed import embed
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._neuron_map import NeuronMap
from liftscape.embedding._widenable_layers import require_layer
from liftscape.functional import require_module
from liftscape.outcomes import EmbeddingError

__all__ = ["add_null_neuron", "split"]


def split(model: "nn.Module | Embedding", inputs: Any, at: str, *, neuron: int, share: float = 0.5) -> Embedding:
    """Copy one neuron of a layer and share out its output: the original keeps 1 − α, the copy takes α.

    Outputs are kept for every input, criticality for every S, loss and activation. With H₂ₛ the curvature of the fibre,
    inertia(H′) = inertia(H) + inertia(α(1−α)H₂ₛ) for α ∉ {0, 1} at a critical point; n₋ and n₊ never fall.

    Source: Zhang et al. 2021 (arXiv 2105.14573) and 2022 (arXiv 2111.15527), splitting embedding; the inertia is
    derived (theory 6).

    Args:
        model: any module, or an embedding to be widened further; it is left as it was.
        inputs: samples with which the forward pass is recorded where it cannot be traced symbolically, as with Conv2d.
        at: name of the Linear or Conv2d whose output neuron or channel is split.
        neuron: its number.
        share: α, any number; 0 or 1 makes one of the two null-like, without out-weights, and the evidence says which.

    Returns:
        The embedding; its chart is w = (1−α)w₁ + αw₂, a = a₁ + a₂.

    Raises:
        EmbeddingError: if the neuron does not exist, or the share is not finite.
        SiteError: if the map is tied, reparametrised or frozen, or its neurons are read by more than maps.
        ModelError: if the network is none, or on the meta device.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> wider = split(net, None, "0", neuron=1, share=-0.5)
        >>> wider.model[0].out_features, bool((wider.model(x) - net(x)).abs().max() < 1e-12)
        (4, True)
    """
    width = _width(model, at)
    if not 0 <= neuron < width:
        raise EmbeddingError(
            f"neuron must be one of the {width} outputs of '{at}', 0 to {width - 1}, but {neuron} was given."
        )
    if not torch.isfinite(torch.tensor(share)):
        raise EmbeddingError(f"share must be a finite number, but {share} was given.")
    return embed(model, layers={at: NeuronMap.copies(width, neuron, (1 - share, share))}, inputs=inputs)


def add_null_neuron(
    model: "nn.Module | Embedding", inputs: Any, at: str, *, generator: torch.Generator | int | None = None
) -> Embedding:
    """Add a neuron to a layer with zero in-weights and zero out-weights, and a bias that is drawn.

    Outputs are kept for every input. Criticality is kept because the neuron is constant: the gradient of its
    out-weights is σ(c)·∂R/∂d, which vanishes where the readers' biases d are critical, so readers need biases.

    Source: Zhang et al. 2022 (arXiv 2111.15527), null embedding.

    Args:
        model: any module, or an embedding to be widened further; it is left as it was.
        inputs: samples with which the forward pass is recorded where it cannot be traced symbolically, as with Conv2d.
        at: name of the Linear or Conv2d that gets the neuron.
        generator: source of its bias, on the CPU; seed 0 when None.

    Returns:
        The embedding; its chart forgets the neuron.

    Raises:
        SiteError: as for :func:`split`, or if a reader has no bias.
        ModelError: if the network is none, or on the meta device.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> bool(torch.equal(add_null_neuron(net, None, "0").model(x), net(x)))
        True
    """
    width = _width(model, at)
    return embed(
        model,
        inputs,
        layers={at: NeuronMap((*range(width), None), (*[1.0] * width, 0.0))},
        factors=None,
        generator=generator,
    )


def _width(model: "nn.Module | Embedding", at: str) -> int:
    """Return the neurons of a layer."""
    network = model.model if isinstance(model, Embedding) else model
    return len(require_layer(require_module(network), at).weight)
