"""Whether R is twice differentiable at θ as far as its gradients on rays tell."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._field import Field
from liftscape.critical._kinks import KinkMargin
from liftscape.critical._onset import onset
from liftscape.functional import RandomRounding
from liftscape.operators import SymmetricOperator
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["Smoothness", "roughness", "smoothness"]

_RAYS, _RUNGS = 10, 20
# ∇R(θ + hu) − ∇R(θ − hu) − 2h∇²R u is of the order h² at least where R is C³, and not smaller than h at a jump of ∇²R.
_SMOOTH = 1.5
_DRAWS, _SAFETY = 2, 4.0


@dataclass(frozen=True)
class Smoothness(Outcome):
    """How far R is from its quadratic model on rays.

    Attributes:
        smooth: whether the difference vanishes faster than the step on every ray.
        order: the smallest order seen; inf where the difference stays within rounding.
        direction: (M,), the ray on which R is not smooth; None without.
    """

    smooth: bool
    order: float
    direction: Float[Tensor, " M"] | None


def smoothness(risk: EmpiricalRisk, field: Field, H: SymmetricOperator, seed: int = 0) -> Smoothness:
    """Compare gradients on both sides of θ with the quadratic model, on random rays at twenty radii.

    e(h) = ∇R(θ + hu) − ∇R(θ − hu) − 2h∇²R u: of order h⁰ across a kink at θ, h¹ where the curvature jumps.

    Args:
        risk: the empirical risk at θ.
        field: R and ∇R around θ.
        H: ∇²R(θ).
        seed: of the rays, every tensor of parameters as long as any other in each.

    Returns:
        Whether R looks C² at θ.
    """
    rays = _rays(risk, seed)
    steps = field.ladder(_RUNGS)
    curved, moved = _products(risk, H, rays)
    offsets = (steps[:, None, None] * rays[None]).reshape(-1, rays.shape[1])
    both = field.gradients(torch.cat([field.theta + offsets, field.theta - offsets]))
    ahead, behind = (part.reshape(_RUNGS, len(rays), -1) for part in both.chunk(2))
    bent, here = steps[:, None, None] * curved[None], field.gradients(field.theta[None])
    # Of both sides together, and of each beside θ: what is even in h cancels in the first, what is odd does not.
    errors = torch.stack([ahead - behind - 2 * bent, ahead - here - bent, behind - here + bent])
    # What rounding does differs with the step more than with the ray, and does not become less further away.
    of_values, of_gradients = field.noise((field.theta + steps[:, None, None] * rays[:_DRAWS]).flatten(0, 1))
    sampled = of_gradients.reshape(_RUNGS, _DRAWS, -1).amax(dim=1).cummax(dim=0).values
    noise = 4 * sampled[:, None, :] + 2 * steps[:, None, None] * moved[None]
    noise = noise + field.noise_here[1]
    sampled = of_values.reshape(_RUNGS, _DRAWS).amax(dim=1).cummax(dim=0).values
    values, spread = _value_errors(field, steps, offsets, here[0], curved, rays, moved.amax(dim=0), sampled)
    lowest, worst = float("inf"), None
    for index, ray in enumerate(rays):
        seen = [onset(steps, error[:, index], noise[:, index]) for error in errors]
        seen += [onset(steps, value[:, index, None], spread[:, index, None]) for value in values]
        for found in seen:
            if found is not None and not found.sudden and found.sustained < lowest:
                lowest, worst = found.sustained, ray
    smooth = lowest >= _SMOOTH
    return Smoothness(smooth, lowest, None if smooth else worst)


def roughness(
    risk: EmpiricalRisk, field: Field, H: SymmetricOperator, kinks: KinkMargin, evidence: dict[str, Any]
) -> str | None:
    """Say why R may not be twice differentiable at a point that lies on no known kink of slopes.

    Args:
        risk: the empirical risk at θ.
        field: R and ∇R around θ.
        H: ∇²R(θ).
        kinks: those known around θ.
        evidence: what is found is added to it.

    Returns:
        A sentence without its full stop; None where nothing speaks against it.
    """
    if kinks.on_curvature_kink:
        count = f"{kinks.on_curvature_kink} pre-activation(s)"
        return f"{count} lie where the curvature jumps, at '{kinks.curvature_layer}'"
    found = smoothness(risk, field, H)
    evidence |= {"order_of_remainder": found.order}
    if not found.smooth:
        return f"gradients around θ differ from the quadratic model to the order {found.order:.1f} in the step, not 2"
    if kinks.unlisted:
        return f"the operation(s) {', '.join(kinks.unlisted)} may have kinks of which nothing is known"
    return None


def _value_errors(
    field: Field,
    steps: Float[Tensor, " L"],
    offsets: Float[Tensor, "LK M"],
    gradient: Float[Tensor, " M"],
    curved: Float[Tensor, "K M"],
    rays: Float[Tensor, "K M"],
    moved: Float[Tensor, " M"],
    sampled: Float[Tensor, " L"],
) -> tuple[Float[Tensor, "2 L K"], Float[Tensor, "L K"]]:
    """Return R(θ ± hu) − R(θ) ∓ h∇R·u − h²uᵀ∇²R u/2, and what rounding can make of it."""
    values = field.values(torch.cat([field.theta[None], field.theta + offsets, field.theta - offsets]))
    ahead, behind = values[1:].reshape(2, len(steps), len(rays))
    slopes, curvatures = steps[:, None] * (rays @ gradient), steps[:, None] ** 2 * (rays * curved).sum(dim=1) / 2
    errors = torch.stack([ahead - values[0] - slopes - curvatures, behind - values[0] + slopes - curvatures])
    # What is more at θ than next to it is a jump, which is not to be hidden by itself.
    noise = sampled + sampled[:1].clamp_max(field.noise_here[0])
    rounding = 64 * torch.finfo(steps.dtype).eps * (slopes.abs() + curvatures.abs())
    blurred = steps * field.noise_here[1].norm() + steps**2 * moved.norm()
    return errors, 4 * noise[:, None] + rounding + 4 * blurred[:, None]


def _rays(risk: EmpiricalRisk, seed: int) -> Float[Tensor, "K M"]:
    """Draw unit vectors in which no tensor of parameters hides behind a larger one."""
    draws = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(_RAYS):
        parts = [
            torch.randn(tensor.numel(), generator=draws, dtype=torch.float64) / tensor.numel() ** 0.5
            for tensor in risk.parameters.values()
        ]
        row = torch.cat(parts)
        rows.append(row / row.norm())
    return torch.stack(rows).to(risk.flatten())


def _products(risk: EmpiricalRisk, H: SymmetricOperator, rays: Float[Tensor, "K M"]) -> tuple[Tensor, Tensor]:
    """Return ∇²R u for each ray, and what rounding can do to it, of which two rays tell."""
    curved, exact = (H @ rays.T).T, risk.hessian()
    moved = torch.finfo(curved.dtype).eps * curved.abs()
    for seed in range(_DRAWS):
        with RandomRounding(seed):
            there = exact.multiply_nudged(rays[:_DRAWS].T).T
        moved = torch.maximum(moved, (there - curved[:_DRAWS]).abs().amax(dim=0))
    return curved, _SAFETY * moved
