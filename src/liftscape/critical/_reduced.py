"""The risk as a function on the Hessian's null space, minimised over the rest."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._spectrum import Spectrum
from liftscape.risk import EmpiricalRisk

__all__ = ["ReducedRisk", "reduced_risk"]

_CORRECTIONS = 4
# A change of R counts from a thousand roundings; these shifts are so short that R changes by rounding alone.
_ROUNDINGS, _SHIFT, _SHIFTS = 1e3, 1e-11, 4


@dataclass(frozen=True)
class ReducedRisk:
    """ρ(n) = min over v in the range of R(θ + Nn + v), relative to its value at n = 0.

    Attributes:
        risk: the empirical risk.
        theta: θ, (M,), minimal over the range.
        null: N, (M, d), orthonormal.
        range: an orthonormal basis of the rest, (M, M − d).
        curvatures: the eigenvalues on it, (M − d,).
        value: R(θ).
        noise: changes of R below this are not told from rounding.
    """

    risk: EmpiricalRisk
    theta: Float[Tensor, " M"]
    null: Float[Tensor, "M d"]
    range: Float[Tensor, "M rest"]
    curvatures: Float[Tensor, " rest"]
    value: float = 0.0
    noise: float = 0.0

    @property
    def dimension(self) -> int:
        """Number of null directions."""
        return self.null.shape[1]

    def corrected(self, coordinates: Float[Tensor, " d"]) -> Float[Tensor, " M"]:
        """Return θ + Nn + v, v from chord steps v ← v − H⁺P∇R, which stop where they could gain only rounding."""
        theta = self.theta + self.null @ coordinates
        for _ in range(_CORRECTIONS):
            components = self.range.T @ self._gradient(theta)
            step = components / self.curvatures
            if not float(components @ step) > 1e-3 * self.noise:
                break
            theta = theta - self.range @ step
        return theta

    def change(self, coordinates: Float[Tensor, " d"]) -> float:
        """Return ρ(n) − ρ(0); infinite where R is not finite."""
        change = self._value(self.corrected(coordinates)) - self.value
        return change if change == change else float("inf")

    def slope(self, coordinates: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """Return ∇ρ(n), by the envelope theorem Nᵀ∇R at the corrected point."""
        return self.null.T @ self._gradient(self.corrected(coordinates))

    def _gradient(self, theta: Tensor) -> Tensor:
        """Return ∇R at a vector of parameters."""
        return self.risk.gradient(self.risk.unflatten(theta))

    def _value(self, theta: Tensor) -> float:
        """Return R at a vector of parameters."""
        return float(self.risk.value(self.risk.unflatten(theta)))


def reduced_risk(risk: EmpiricalRisk, spectrum: Spectrum) -> ReducedRisk:
    """Return the reduced function at the risk's point, its rounding measured by shifts too short to matter.

    Args:
        risk: the empirical risk.
        spectrum: of its Hessian; eigenvalues below its uncertainty are null.

    Returns:
        The reduced function.
    """
    null = spectrum.eigenvalues.abs() <= spectrum.uncertainty
    start = ReducedRisk(
        risk, risk.flatten(), spectrum.vectors[:, null], spectrum.vectors[:, ~null], spectrum.eigenvalues[~null]
    )
    start = replace(start, theta=start.corrected(torch.zeros(start.dimension).to(start.null)))
    value = start._value(start.theta)
    shifts = [
        abs(start._value(start.theta + sign * _SHIFT * start.null[:, k]) - value)
        for k in range(min(_SHIFTS, start.dimension))
        for sign in (-1, 1)
    ]
    rounding = max(torch.finfo(start.theta.dtype).eps * abs(value), *shifts)
    return replace(start, value=value, noise=_ROUNDINGS * rounding)
