"""The lifted manifold T_S(θ): all networks of one depth that are lifts of one smaller network on the data S."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape.activations import AffinePiece
from liftscape.derivatives import flatten
from liftscape.embedding._chart import Chart
from liftscape.embedding._manifold_path import path_between
from liftscape.embedding._occupied_layer import OccupiedLayer
from liftscape.embedding._preserved import outputs_off
from liftscape.functional import trainable_parameters
from liftscape.outcomes import EmbeddingError, Outcome
from liftscape.sites import stream_neurons

__all__ = ["LiftedManifold", "Membership"]

# Ulps that a sum of products may be off by, whatever tolerance is asked for.
_ULPS = 64
_TINY = 1e-300


@dataclass(frozen=True)
class Membership(Outcome):
    """Whether a network lies on a lifted manifold, and by how much it fails or holds; it is truthy if it does.

    Attributes:
        holds: the verdict.
        gap: largest difference between an entry of π(θ′) and of θ, relative to the products that make it.
        margin: smallest distance of a pre-activation to an end of its piece; negative outside.
        reason: one sentence.
    """

    holds: bool
    gap: float
    margin: float
    reason: str

    def __bool__(self) -> bool:
        """Return the verdict."""
        return self.holds


@final
@dataclass(frozen=True)
class LiftedManifold:
    """T_S(θ) for fixed affine pieces: π(θ′) = θ, and every inserted neuron on its piece for all samples of S.

    Source: Bai et al. 2022 (arXiv 2205.13283), critical lifting; dimension and paths are derived (theory T4, Paths).

    Attributes:
        model: the lifted network, a point of the manifold.
        base: the smaller network θ.
        chart: π.
        layers: the inserted layers with their pieces.
        inputs: S, read again when membership is asked for; never copied.
        redraw: draws another point.
    """

    model: nn.Module
    base: nn.Module
    chart: Chart
    layers: tuple[OccupiedLayer, ...]
    inputs: Any = field(repr=False)
    redraw: Callable[[torch.Generator | None], nn.Module] = field(repr=False)

    @property
    def dimension(self) -> int:
        """M′ − rank J, which is ΔM where the corank is 0."""
        params = trainable_parameters(self.model)
        return self.chart.added_parameters(params) + self.chart.corank(params)

    def margin(self, model: nn.Module | None = None) -> float:
        """Return the smallest distance of any pre-activation on S to an end of its affine piece.

        Args:
            model: a network of this depth; the manifold's own point when None.

        Returns:
            The margin, in units of the pre-activations; negative outside the pieces.
        """
        smallest = float("inf")
        ends = {layer.activation: _ends(layer.pieces) for layer in self.layers}

        def receive(name: str, _activation: Any, _args: Any, _kwargs: Any, t: Tensor) -> None:
            nonlocal smallest
            lower, upper = (end.to(t) for end in ends[name])
            smallest = min(smallest, float(torch.minimum(t - lower, upper - t).min()))

        stream_neurons(self.model if model is None else model, list(ends), self.inputs, receive)
        return smallest

    def contains(self, model: nn.Module, tolerance: float = 1e-9) -> Membership:
        """Tell whether a network is a lift of the same θ on the same S and pieces.

        Args:
            model: a network of the same structure as the lifted one.
            tolerance: largest |π(θ′) − θ| allowed, entry by entry relative to the products that make it, and largest
                change of outputs on S, relative to each output; some ulps at least.

        Returns:
            The verdict with its evidence; truthy if it holds.

        Raises:
            EmbeddingError: if the network has other parameters than the lifted one.
        """
        params, own = trainable_parameters(model), trainable_parameters(self.model)
        if {name: p.shape for name, p in params.items()} != {name: p.shape for name, p in own.items()}:
            raise EmbeddingError(
                f"contains compares networks of one structure, but the given {type(model).__name__} has parameters "
                f"{list(params)} and the lifted network {list(own)}; give a network with the same layers."
            )
        allowed = max(tolerance, _ULPS * max(torch.finfo(tensor.dtype).eps for tensor in own.values()))
        wide = {name: tensor.detach().double() for name, tensor in params.items()}
        base = flatten({name: tensor.double() for name, tensor in trainable_parameters(self.base).items()})
        products = torch.maximum(flatten(self.chart.magnitude(wide)), base.abs())
        gap = float(((flatten(self.chart.project(wide)) - base).abs() / products.clamp_min(_TINY)).max())
        margin = self.margin(model)
        if not gap <= allowed:
            return Membership(False, gap, margin, f"π(θ′) differs from θ by {gap:.2e}, more than {allowed:.0e}.")
        if not margin > 0:
            return Membership(False, gap, margin, f"a neuron leaves its affine piece by {-margin:.2e} on the data.")
        if (change := outputs_off(self.base, model, self.inputs, allowed)) is not None:
            return Membership(False, gap, margin, f"outputs on the data differ by {change:.2e}.")
        return Membership(True, gap, margin, "π(θ′) = θ and every inserted neuron stays on its affine piece.")

    def sample(self, generator: torch.Generator | int | None = None) -> nn.Module:
        """Draw another point of the manifold, with the same pieces.

        Args:
            generator: source of randomness.

        Returns:
            A new network.
        """
        return self.redraw(None if generator is None else as_generator(generator))

    def tangent_basis(self) -> Float[Tensor, "M dimension"]:
        """Return an orthonormal basis of ker J, the tangent space at the lifted point.

        Returns:
            (M′, dimension), columns in the order of the lifted network's trainable parameters.
        """
        J = self.chart.jacobian(trainable_parameters(self.model))
        return torch.linalg.svd(J)[2][J.shape[1] - self.dimension :].T.contiguous()

    def path(self, other: nn.Module) -> Callable[[float], nn.Module]:
        """Return a path on the manifold from its own point to another network on it.

        Args:
            other: another point of the manifold, with one inserted layer.

        Returns:
            A callable of t in [0, 1] that returns a network; 0 gives the manifold's point, 1 the other.

        Raises:
            EmbeddingError: if the other network is not on the manifold, several layers were inserted, the maps have no
                bias, or the two networks lie in different components.
        """
        membership = self.contains(other)
        if not membership:
            raise EmbeddingError(f"the path's other end is not on the manifold: {membership.reason}")
        return path_between((self.model, other), self.base, self.chart, self.layers, self.inputs)


def _ends(pieces: tuple[AffinePiece, ...]) -> tuple[Tensor, Tensor]:
    """Return the left and right ends as tensors (k,)."""
    lower = torch.tensor([piece.lower for piece in pieces], dtype=torch.float64)
    return lower, torch.tensor([piece.upper for piece in pieces], dtype=torch.float64)
