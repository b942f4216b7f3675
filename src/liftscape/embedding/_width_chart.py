"""The chart of width embeddings: copies of a neuron flow together, a null neuron is forgotten."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from liftscape.embedding._chart import Chart, Parameters
from liftscape.embedding._neuron_map import NeuronMap

__all__ = ["WidenedLayer", "WidthChart"]


@final
@dataclass(frozen=True)
class WidenedLayer:
    """A layer that became wider, and what reads it.

    Attributes:
        neurons: its index map and shares.
        width: neurons before.
        readers: names of the maps that read it, with the number of columns of each neuron: 1, or the places of a
            channel that a Linear reads.
        norms: names of the BatchNorms between, whose γ and β flow together as biases do.
    """

    neurons: NeuronMap
    width: int
    readers: Mapping[str, int]
    norms: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class WidthChart(Chart):
    """π with w_s = Σ_{j∈I⁻¹(s)} β_j w_j for in-weights and biases, and a_s = Σ_{j∈I⁻¹(s)} a_j for out-weights.

    R′ = R∘π to first order at the embedded point, so g′ = Jᵀg; to second order R′ − R∘π is the curvature of the fibre.
    Beside a null neuron g′ = Jᵀg at critical points only, where the mean output error vanishes.

    Source: Zhang et al. 2022 (arXiv 2111.15527), embeddings; the chart is derived.

    Attributes:
        layers: those that became wider, by name.
        order: names of the smaller network's trainable parameters.
    """

    layers: Mapping[str, WidenedLayer]
    order: tuple[str, ...]

    def project(self, params: Parameters) -> dict[str, Tensor]:
        """Let the copies flow together, differentiably.

        Args:
            params: θ′ by name.

        Returns:
            θ by name.
        """
        return self._contract(params, lambda matrix: matrix)

    def magnitude(self, params: Parameters) -> dict[str, Tensor]:
        """Return Σ_j |β_j w_j| and Σ_j |a_j|.

        Args:
            params: θ′ by name.

        Returns:
            Numbers by name of θ.
        """
        return self._contract({name: tensor.abs() for name, tensor in params.items()}, torch.abs)

    def _contract(self, params: Parameters, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Let the copies flow together by a function of the shares."""
        smaller = dict(params)
        for name, layer in self.layers.items():
            rows, columns = of(layer.neurons.rows(layer.width)), of(layer.neurons.columns(layer.width))
            for key in (_join(module, own) for module in (name, *layer.norms) for own in ("weight", "bias")):
                if key in smaller:
                    smaller[key] = _contracted(smaller[key], rows, 0)
            for reader, places in layer.readers.items():
                key = _join(reader, "weight")
                smaller[key] = _contracted_columns(smaller[key], columns, places)
        return {name: smaller[name] for name in self.order}


def _contracted(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return the tensor with an axis multiplied by a matrix."""
    return (tensor.movedim(axis, -1) @ matrix.to(tensor).T).movedim(-1, axis)


def _contracted_columns(weight: Tensor, matrix: Tensor, places: int) -> Tensor:
    """Return out-weights with the columns of each neuron's copies added."""
    blocks = weight.reshape(len(weight), matrix.shape[1], -1)
    return _contracted(blocks, matrix, 1).reshape(len(weight), matrix.shape[0] * places, *weight.shape[2:])


def _join(module: str, parameter: str) -> str:
    """Return the full name of a module's parameter."""
    return f"{module}.{parameter}" if module else parameter
