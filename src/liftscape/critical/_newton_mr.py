"""Steps of the three methods, each a filter of the Hessian's spectrum: p = −V φ(λ) Vᵀ g."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liftscape.critical._batched import Landscape

__all__ = ["METHODS", "LocalModel", "Method", "Proposal", "local_model", "polishing_step", "propose"]

Method = Literal["newton-mr", "minimum", "gradient-norm"]
METHODS: tuple[Method, ...] = ("newton-mr", "minimum", "gradient-norm")

# Below this share of the largest curvature an eigenvalue is rounding and the pseudo-inverse leaves it out.
_ROUNDING = 1e-13
_NEGATIVE = 1e-6
# A predicted decrease below this share of R is lost in the rounding of R; from there ‖g‖ tells progress.
_VISIBLE = 1e-10
_LONGEST = 3.0
_LEAP = 0.1


@dataclass(frozen=True)
class LocalModel:
    """The quadratic model of R at K points, in the Hessian's eigenbasis.

    Attributes:
        values: R, (K,).
        gradients: g, (K, M).
        eigenvalues: λ, ascending, (K, M).
        vectors: V, eigenvectors as columns, (K, M, M).
    """

    values: Float[Tensor, " K"]
    gradients: Float[Tensor, "K M"]
    eigenvalues: Float[Tensor, "K M"]
    vectors: Float[Tensor, "K M M"]

    @property
    def components(self) -> Float[Tensor, "K M"]:
        """Vᵀg."""
        return torch.einsum("kij,ki->kj", self.vectors, self.gradients)

    @property
    def largest(self) -> Float[Tensor, "K 1"]:
        """The largest |λ|, positive."""
        return self.eigenvalues.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(self.values.dtype).tiny)

    def from_eigenbasis(self, coordinates: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return V times the coordinates."""
        return torch.einsum("kij,kj->ki", self.vectors, coordinates)

    def gradient_after(self, moves: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return g + H·moves."""
        along = torch.einsum("kij,ki->kj", self.vectors, moves)
        return self.gradients + self.from_eigenbasis(self.eigenvalues * along)


@dataclass(frozen=True)
class Proposal:
    """A direction with the decrease of its merit function that a line search demands.

    Attributes:
        directions: p, (K, M).
        on_gradient: whether ‖g‖² is the merit function; else it is R; (K,).
        slopes: derivative of the merit function along p, (K,).
        curvatures: second derivative along p where p is a leap along negative curvature, else 0; (K,).
    """

    directions: Float[Tensor, "K M"]
    on_gradient: Bool[Tensor, " K"]
    slopes: Float[Tensor, " K"]
    curvatures: Float[Tensor, " K"]


def local_model(landscape: Landscape, thetas: Float[Tensor, "K M"]) -> LocalModel:
    """Return the quadratic model at each point."""
    hessians = landscape.hessians(thetas)
    # eigh refuses what is not finite; a gradient that is not a number ends such a point.
    finite = torch.isfinite(hessians).flatten(1).all(dim=1)
    eigenvalues, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], hessians, 0.0))
    gradients = torch.where(finite[:, None], landscape.gradients(thetas), torch.nan)
    return LocalModel(landscape.values(thetas), gradients, eigenvalues, vectors)


def propose(method: Method, model: LocalModel, damping: Float[Tensor, " K"], reach: Float[Tensor, " K"]) -> Proposal:
    """Return the method's step at each point.

    newton-mr and gradient-norm: φ(λ) = λ / (λ² + μ²), which is 1/λ for μ = 0 (least-squares Newton), on ‖g‖².
    minimum: φ(λ) = 1 / (|λ| + μ) (saddle-free Newton) on R; once that decrease is below the rounding of R, a leap along
    negative curvature where there is some, else Newton's step on ‖g‖².

    Source: Roosta et al. 2018 (arXiv 1810.00303), Newton-MR; Dauphin et al. 2014 (arXiv 1406.2572), saddle-free Newton;
    Frye et al. 2020 (arXiv 2003.10397).

    Args:
        method: which filter.
        model: the quadratic models.
        damping: μ relative to max |λ|.
        reach: 1 + ‖θ‖; steps are cut to three times that.

    Returns:
        Directions with their slopes.
    """
    components, eigenvalues = model.components, model.eigenvalues
    absolute = damping[:, None] * model.largest
    least_squares = -_damped_inverse(eigenvalues, absolute, model.largest) * components
    if method != "minimum":
        return _shortened(model, least_squares, torch.ones_like(damping, dtype=torch.bool), reach)
    steps = -components / (eigenvalues.abs() + absolute).clamp(min=_ROUNDING * model.largest)
    decrease = -(components * steps).sum(dim=1) / 2
    invisible = decrease <= _VISIBLE * model.values.abs()
    proposal = _shortened(model, torch.where(invisible[:, None], least_squares, steps), invisible, reach)
    leap = invisible & (eigenvalues[:, 0] < -_NEGATIVE * model.largest[:, 0]) & (damping < 1.0)
    sign = torch.where(components[:, 0] > 0, -1.0, 1.0).to(components)
    along = model.vectors[:, :, 0] * (sign * _LEAP * reach)[:, None]
    return Proposal(
        torch.where(leap[:, None], along, proposal.directions),
        invisible & ~leap,
        torch.where(leap, (model.gradients * along).sum(dim=1), proposal.slopes),
        torch.where(leap, eigenvalues[:, 0] * along.square().sum(dim=1), 0.0),
    )


def polishing_step(model: LocalModel) -> Float[Tensor, "K M"]:
    """Return Newton's least-squares step −H⁺g at each point."""
    zero = torch.zeros_like(model.largest)
    return model.from_eigenbasis(-_damped_inverse(model.eigenvalues, zero, model.largest) * model.components)


def _damped_inverse(eigenvalues: Tensor, damping: Tensor, largest: Tensor) -> Tensor:
    """Return λ / (λ² + μ²), zero where λ is rounding."""
    kept = eigenvalues.abs() > _ROUNDING * largest
    return torch.where(kept, eigenvalues / torch.where(kept, eigenvalues.square() + damping.square(), 1.0), 0.0)


def _shortened(model: LocalModel, steps: Tensor, on_gradient: Tensor, reach: Tensor) -> Proposal:
    """Cut steps (in the eigenbasis) to the longest allowed and add the slopes of their merit functions."""
    factor = (_LONGEST * reach / steps.norm(dim=1).clamp(min=torch.finfo(steps.dtype).tiny)).clamp(max=1.0)
    steps = steps * factor[:, None]
    on_risk = (model.components * steps).sum(dim=1)
    on_norm = 2 * (model.components * model.eigenvalues * steps).sum(dim=1)
    slopes = torch.where(on_gradient, on_norm, on_risk)
    return Proposal(model.from_eigenbasis(steps), on_gradient, slopes, torch.zeros_like(slopes))
