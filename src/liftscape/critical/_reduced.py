"""The risk as a function on the Hessian's null space, stationary over the rest, at many points at once."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liftscape.critical._field import Field
from liftscape.critical._spectrum import Spectrum

__all__ = ["ReducedRisk", "reduced_risk"]

_CORRECTIONS = 8
# A change of R counts from a thousand roundings.
_ROUNDINGS = 1e3


@dataclass(frozen=True)
class ReducedRisk:
    """ρ(n) = R(θ + Nn + v) − R(θ) with v in the range of ∇²R such that its components of ∇R vanish.

    Attributes:
        field: R and ∇R around θ.
        theta: θ, (M,), stationary over the range.
        null: N, (M, d), orthonormal.
        range: an orthonormal basis of the rest, (M, M − d).
        curvatures: the eigenvalues on it, (M − d,).
        value: R(θ).
        noise: changes of R below this are not told from rounding.
        shortest: corrections below this are made of rounding of the gradient.
    """

    field: Field
    theta: Float[Tensor, " M"]
    null: Float[Tensor, "M d"]
    range: Float[Tensor, "M rest"]
    curvatures: Float[Tensor, " rest"]
    value: float = 0.0
    noise: float = 0.0
    shortest: float = 0.0

    @property
    def dimension(self) -> int:
        """Number of null directions."""
        return self.null.shape[1]

    def corrected(
        self, coordinates: Float[Tensor, "K d"], exact: bool = False
    ) -> tuple[Float[Tensor, "K M"], Bool[Tensor, " K"]]:
        """Return θ + Nn + v, v from chord steps v ← v − H⁺P∇R, and whether they came to an end.

        Args:
            coordinates: n.
            exact: whether steps go on until they are rounding of θ, instead of until R gains nothing.

        Returns:
            The points, and for each whether it is settled.
        """
        thetas = self.theta + coordinates @ self.null.T
        settled = torch.zeros(len(thetas), dtype=torch.bool, device=thetas.device)
        if not len(self.curvatures):
            return thetas, ~settled
        eps = torch.finfo(thetas.dtype).eps
        for _ in range(_CORRECTIONS):
            rows = torch.nonzero(~settled).squeeze(1)
            components = self.field.gradients(thetas[rows]) @ self.range
            steps = components / self.curvatures
            if exact:
                done = steps.norm(dim=1) <= (8 * eps * thetas[rows].norm(dim=1)).clamp_min(self.shortest)
            else:
                done = (components * steps).abs().sum(dim=1) <= 1e-3 * self.noise
            moving = ~done & torch.isfinite(steps).all(dim=1)
            thetas = thetas.index_add(0, rows[moving], -steps[moving] @ self.range.T)
            settled = settled.index_fill(0, rows[done], True)
            if not bool(moving.any()):
                break
        return thetas, settled

    def changes(self, coordinates: Float[Tensor, "K d"]) -> Float[Tensor, " K"]:
        """Return ρ(n); infinite where R is not finite."""
        changes = self.field.values(self.corrected(coordinates)[0]) - self.value
        return torch.where(torch.isnan(changes), torch.inf, changes)

    def slopes(self, coordinates: Float[Tensor, "K d"]) -> Float[Tensor, "K d"]:
        """Return ∇ρ(n), by the envelope theorem Nᵀ∇R at the corrected point."""
        return self.field.gradients(self.corrected(coordinates)[0]) @ self.null


def reduced_risk(field: Field, spectrum: Spectrum) -> ReducedRisk:
    """Return the reduced function at a point, with what rounding does to R there.

    Args:
        field: R and ∇R around the point.
        spectrum: of its Hessian; eigenvalues below its uncertainty are null.

    Returns:
        The reduced function.
    """
    null = spectrum.eigenvalues.abs() <= spectrum.uncertainty
    start = ReducedRisk(
        field, field.theta, spectrum.vectors[:, null], spectrum.vectors[:, ~null], spectrum.eigenvalues[~null]
    )
    if len(start.curvatures):
        noise = field.noise_here[1]
        start = replace(start, shortest=float(((noise @ start.range.abs()) / start.curvatures.abs()).norm()))
    thetas, _ = start.corrected(start.null.new_zeros(1, start.dimension), exact=True)
    value = float(field.values(thetas)[0])
    eps = torch.finfo(thetas.dtype).eps
    rounding = max(eps * abs(value), float(field.value_noise(thetas)[0]) / 4)
    return replace(start, theta=thetas[0], value=value, noise=_ROUNDINGS * rounding)
