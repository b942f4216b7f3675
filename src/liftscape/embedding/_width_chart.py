"""The chart of width embeddings: a split neuron's two halves flow together, a null neuron is forgotten."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from liftscape.embedding._chart import Chart, Parameters

__all__ = ["WidthChart"]


@final
@dataclass(frozen=True)
class WidthChart(Chart):
    """π with w = (1−α)w₁ + αw₂ and a = a₁ + a₂ for a split, w = w₁ and a = a₁ beside a null neuron.

    R′ = R∘π to first order at a split point, so g′ = Jᵀg; to second order R′ − R∘π is the curvature of the fibre.
    Beside a null neuron g′ = Jᵀg at critical points only, where the mean output error vanishes.

    Source: Zhang et al. 2022 (arXiv 2111.15527), embeddings; the chart is derived.

    Attributes:
        at: the Linear whose last output neuron was added.
        readers: the Linears whose last input was added.
        neuron: the neuron that was split; None for a null neuron.
        share: α, the added neuron's share.
        order: names of the smaller network's trainable parameters.
    """

    at: str
    readers: tuple[str, ...]
    neuron: int | None
    share: float
    order: tuple[str, ...]

    def project(self, params: Parameters) -> dict[str, Tensor]:
        """Let the halves flow together, differentiably.

        Args:
            params: θ′ by name.

        Returns:
            θ by name.
        """
        rows = {_join(self.at, "weight"), _join(self.at, "bias")}
        columns = {_join(reader, "weight") for reader in self.readers}
        return {
            name: self._merge_rows(params[name])
            if name in rows
            else self._merge_columns(params[name])
            if name in columns
            else params[name]
            for name in self.order
        }

    def _merge_rows(self, tensor: Tensor) -> Tensor:
        """Return w with (1−α)w₁ + αw₂ in the split row, without the last."""
        kept, added = tensor[:-1], tensor[-1]
        if self.neuron is None:
            return kept
        step = torch.zeros(len(kept), dtype=tensor.dtype, device=tensor.device)
        step[self.neuron] = self.share
        difference = added - kept[self.neuron]
        return kept + (torch.outer(step, difference) if tensor.ndim == 2 else step * difference)

    def _merge_columns(self, tensor: Tensor) -> Tensor:
        """Return a with a₁ + a₂ in the split column, without the last."""
        kept, added = tensor[:, :-1], tensor[:, -1]
        if self.neuron is None:
            return kept
        place = torch.zeros(kept.shape[1], dtype=tensor.dtype, device=tensor.device)
        place[self.neuron] = 1
        return kept + torch.outer(added, place)


def _join(module: str, parameter: str) -> str:
    """Return the full name of a module's parameter."""
    return f"{module}.{parameter}" if module else parameter
