"""R, ∇R and dense ∇²R at many parameter vectors at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap

from liftscape.outcomes import NotFiniteError
from liftscape.risk import EmpiricalRisk

__all__ = ["Landscape", "SequentialLandscape", "VmappedLandscape", "draw_starts", "landscape_of"]

# Parameter vectors times Hessian columns that one vectorised pass takes at once; it bounds memory.
_LANES, _NUMBERS = 4096, 2.0**24
_AGREEMENT = 1e-9


class Landscape(ABC):
    """The risk as a function of K parameter vectors (K, M)."""

    def __init__(self, risk: EmpiricalRisk) -> None:
        self.risk = risk

    @abstractmethod
    def values(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
        """Return R at each vector."""

    @abstractmethod
    def gradients(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return ∇R at each vector."""

    @abstractmethod
    def both(self, thetas: Float[Tensor, "K M"]) -> tuple[Float[Tensor, " K"], Float[Tensor, "K M"]]:
        """Return R and ∇R at each vector."""

    @abstractmethod
    def hessians(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M M"]:
        """Return the symmetric part of the computed ∇²R at each vector."""


@final
class SequentialLandscape(Landscape):
    """One vector after the other, by double backward over streamed batches: right for every module."""

    def values(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
        """Return R at each vector."""
        return torch.stack([self.risk.value(self.risk.unflatten(theta)) for theta in thetas])

    def gradients(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return ∇R at each vector."""
        return torch.stack([self.risk.gradient(self.risk.unflatten(theta)) for theta in thetas])

    def both(self, thetas: Float[Tensor, "K M"]) -> tuple[Float[Tensor, " K"], Float[Tensor, "K M"]]:
        """Return R and ∇R at each vector."""
        return self.values(thetas), self.gradients(thetas)

    def hessians(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M M"]:
        """Return the symmetric part of the computed ∇²R at each vector."""
        return _symmetric(torch.stack([self._hessian(theta) for theta in thetas]))

    def _hessian(self, theta: Tensor) -> Tensor:
        """Return ∇²R at one vector, NaN where it is not finite, at which the search ends that point."""
        try:
            return self.risk.hessian(self.risk.unflatten(theta)).to_dense()
        except NotFiniteError:
            return theta.new_full((len(theta), len(theta)), torch.nan)


@final
class VmappedLandscape(Landscape):
    """All vectors in one vectorised pass: vmap of R, of its gradient, and of its double backward by columns."""

    def values(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
        """Return R at each vector."""
        with torch.no_grad():
            return vmap(self._value, chunk_size=self._lanes(thetas))(thetas.detach())

    def gradients(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return ∇R at each vector."""
        return vmap(grad(self._value), chunk_size=self._lanes(thetas))(thetas.detach())

    def both(self, thetas: Float[Tensor, "K M"]) -> tuple[Float[Tensor, " K"], Float[Tensor, "K M"]]:
        """Return R and ∇R at each vector."""
        gradients, values = vmap(grad_and_value(self._value), chunk_size=self._lanes(thetas))(thetas.detach())
        return values.detach(), gradients

    def hessians(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M M"]:
        """Return the symmetric part of the computed ∇²R at each vector."""
        identity = torch.eye(thetas.shape[1], dtype=thetas.dtype, device=thetas.device)

        def rows(theta: Tensor) -> Tensor:
            pull_back = vjp(grad(self._value), theta)[1]
            return vmap(pull_back)(identity)[0]

        return _symmetric(vmap(rows, chunk_size=max(1, _LANES // len(identity)))(thetas.detach()))

    def _lanes(self, thetas: Tensor) -> int:
        """Return how many vectors one pass takes, so that it holds a bounded number of activations."""
        # A layer of a network with M parameters is about √M wide.
        numbers = self.risk.batches.largest * (self.risk.batches.widest + 4 * thetas.shape[1] ** 0.5)
        return max(1, min(_LANES, int(_NUMBERS / numbers)))

    def _value(self, theta: Tensor) -> Tensor:
        """Return R at one vector, differentiable."""
        return sum(self.risk.terms(self.risk.unflatten(theta)), start=theta.new_zeros(()))


def landscape_of(risk: EmpiricalRisk, probe: Float[Tensor, "K M"], second: bool = True) -> Landscape:
    """Return the vectorised landscape where the module allows it and it agrees with double backward, else the other.

    Args:
        risk: the empirical risk.
        probe: parameter vectors (K, M); gradient and Hessian at two of them are compared.
        second: whether Hessians will be asked for, and are compared.

    Returns:
        The landscape.
    """
    sequential, vectorised = SequentialLandscape(risk), VmappedLandscape(risk)
    probe = probe[:2]
    try:
        pairs = [(sequential.gradients(probe), vectorised.gradients(probe))]
        if second:
            pairs.append((sequential.hessians(probe), vectorised.hessians(probe)))
    except (RuntimeError, TypeError):
        # Modules with data-dependent branches or buffers that the call updates cannot be vectorised.
        return sequential
    slack = max(_AGREEMENT, 1e4 * torch.finfo(probe.dtype).eps)
    agree = all(float((a - b).abs().max()) <= slack * (1 + float(a.abs().max())) for a, b in pairs)
    return vectorised if agree else sequential


def draw_starts(risk: EmpiricalRisk, count: int, generator: torch.Generator, scale: float) -> Float[Tensor, "K M"]:
    """Draw parameter vectors: weights from N(0, scale² / fan_in), vectors (biases, gains) about the model's own.

    Args:
        risk: the empirical risk; its model names the parameters.
        count: the number K of vectors.
        generator: source of the draws, on the CPU.
        scale: standard deviation of weights times the square root of the fan-in, and of vectors.

    Returns:
        The vectors (K, M).
    """
    return torch.stack([risk.flatten(_draw(risk.parameters, generator, scale)) for _ in range(count)])


def _draw(like: Mapping[str, Tensor], generator: torch.Generator, scale: float) -> dict[str, Tensor]:
    """Draw one θ by name."""
    drawn = {}
    for name, tensor in like.items():
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor) * scale
        drawn[name] = tensor + noise if tensor.ndim < 2 else noise / (tensor[0].numel() or 1) ** 0.5
    return drawn


def _symmetric(matrices: Float[Tensor, "K M M"]) -> Float[Tensor, "K M M"]:
    """Return (H + Hᵀ) / 2."""
    return (matrices + matrices.mT) / 2
