"""Whether a critical point lies next to θ: Newton's steps contract, and no gradient is left that rounding excuses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._noise import gradient_rounding
from liftscape.operators import SymmetricOperator
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["Contraction", "contraction", "visible_gradient"]

# Two steps with ‖p₂‖ ≤ ¼‖p₁‖ are those of a Newton iteration inside its ball of convergence.
_CONTRACTION, _STEPS = 0.25, 6
# A component this many times what rounding can make of it is there.
_VISIBLE = 10.0
# The critical point may be this far from θ, relative to 1 + ‖θ‖.
_NEAR = 1e-2
_PROBES = 8


@dataclass(frozen=True)
class Contraction(Outcome):
    """What Newton's iteration from θ did.

    Attributes:
        steps: lengths of Newton's steps over the resolved eigenvalues, until they are rounding.
        distance: from θ to the last iterate.
        visible: the largest component of ∇R there over what rounding can make of it; above 10 a gradient is left.
        near: whether a critical point lies next to θ as far as float64 shows.
        reason: one sentence without its full stop.
    """

    steps: tuple[float, ...]
    distance: float
    visible: float
    near: bool
    reason: str


def contraction(
    risk: EmpiricalRisk,
    H: SymmetricOperator,
    eigenvalues: Float[Tensor, " k"],
    vectors: Float[Tensor, "M k"],
    moved: float,
) -> Contraction:
    """Iterate p = −V Λ⁻¹ Vᵀ ∇R from θ and see whether ‖p‖ contracts and what gradient is left.

    ‖∇R‖ small is no proof of a critical point nearby: where θ runs to infinity the gradient and the curvature fall
    together, and Newton's steps keep their length. Those curvatures are below what eigenvalues resolve; but the
    gradient they leave is many times its rounding, component by component.

    Source: derived; Kantorovich's theorem as in Ortega, Rheinboldt 1970, section 12.6.

    Args:
        risk: the empirical risk at θ.
        H: ∇²R(θ).
        eigenvalues: those that are resolved, (k,).
        vectors: their eigenvectors as columns, (M, k).
        moved: what rounding makes of ∇²R.

    Returns:
        The steps with the verdict.
    """
    start = risk.flatten()
    theta, steps, last = start, [], torch.zeros_like(start)
    eps = torch.finfo(start.dtype).eps
    rounding = gradient_rounding(risk)
    inverse = (vectors / eigenvalues) @ vectors.T if len(eigenvalues) else None
    while inverse is not None and len(steps) < _STEPS:
        step = -inverse @ risk.gradient(risk.unflatten(theta))
        length, least = float(step.norm()), float((inverse.abs() @ rounding).norm()) + eps * float(theta.norm())
        if not length < float("inf"):
            return Contraction(tuple(steps), length, float("inf"), False, "Newton's steps do not stay finite")
        if length <= least:
            last = step
            break
        if steps and length > _CONTRACTION * steps[-1]:
            # As long as steps are only a few roundings long, they are made of rounding.
            if length <= _VISIBLE * least:
                break
            steps.append(length)
            reason = f"Newton's steps do not contract: they are {steps[-2]:.1e} and {steps[-1]:.1e} long"
            return Contraction(tuple(steps), float((theta - start).norm()), float("inf"), False, reason)
        steps.append(length)
        theta = theta + step
    distance = float((theta - start).norm())
    # A step of rounding settles a tensor whose entries are smaller still, or unsettles it where its sum mixes scales.
    visible = min(visible_gradient(risk.at(risk.unflatten(end)), H, moved) for end in (theta, theta + last))
    if visible > _VISIBLE:
        reason = (
            f"‖∇R‖ is small, but where Newton's steps end a gradient of {visible:.0e} times its rounding is left, "
            "which no resolved curvature removes: θ may run to infinity, or the point is degenerate and not reached"
        )
        return Contraction(tuple(steps), distance, visible, False, reason)
    if distance > _NEAR * (1 + float(start.norm())):
        reason = f"the nearest critical point is {distance:.1e} away"
        return Contraction(tuple(steps), distance, visible, False, reason)
    return Contraction(tuple(steps), distance, visible, True, "Newton's steps contract")


def visible_gradient(risk: EmpiricalRisk, H: SymmetricOperator, moved: float) -> float:
    """Return the largest component of ∇R(θ) over what rounding of the gradient, of θ and of H can make of it.

    Rounding of θ moves component k by eps·|Σ_j H_kj s_j ξ_j|, s_j the largest entry of the tensor that θ_j belongs to,
    of which eight random signs ξ give the size.

    Args:
        risk: the empirical risk at θ.
        H: ∇²R close to θ.
        moved: what rounding makes of ∇²R, in the Frobenius norm.

    Returns:
        max_k |∂_k R| / noise_k, 0 where the gradient vanishes.
    """
    gradient, theta = risk.gradient(), risk.flatten()
    eps = torch.finfo(theta.dtype).eps
    scales = torch.cat([tensor.abs().max().expand(tensor.numel()) for tensor in risk.parameters.values()])
    draws = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (len(theta), _PROBES), generator=draws, dtype=torch.float64) * 2 - 1
    placed = (H @ (scales[:, None] * signs.to(scales))).abs().amax(dim=1)
    noise = gradient_rounding(risk) + 2 * eps * placed + eps * moved * float(theta.norm())
    ratio = torch.where(gradient == 0, 0.0, gradient.abs() / noise)
    return float(ratio.max()) if len(ratio) else 0.0
