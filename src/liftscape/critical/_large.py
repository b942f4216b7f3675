"""What can be certified where the dense Hessian does not fit: negative curvature proved by residual bounds."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._criticality import visible_gradient
from liftscape.critical._field import Field
from liftscape.critical._kinks import KinkMargin
from liftscape.critical._noise import gradient_rounding, hessian_rounding
from liftscape.critical._smoothness import roughness
from liftscape.critical._verdict import Verdict
from liftscape.curvature import (
    PartialInertia,
    Progress,
    most_negative_eigenpair,
    newton_step,
    partial_inertia,
    plateau_reading,
    recorded,
)
from liftscape.operators import SymmetricOperator
from liftscape.risk import EmpiricalRisk

__all__ = ["judge_large"]

# As for a dense spectrum: an eigenvalue this many times its error bound away from zero is decided.
_DECIDED = 10.0
_TINY = 1e-300
# Parameters are compared with themselves at these shares of the way to the origin.
_INWARDS, _SEEN, _PROBES = (0.25, 0.5, 0.75, 1.0), 10.0, 8
# As for Newton's steps over a dense spectrum, but in Krylov spaces, which leave a hundredth of a gradient.
_CONTRACTION, _NEAR, _VISIBLE, _ROUNDINGS = 0.25, 1e-2, 1e3, 1e3


def judge_large(
    risk: EmpiricalRisk,
    field: Field,
    gradient: Float[Tensor, " M"],
    tolerance: float,
    kinks: KinkMargin,
    max_products: int,
    progress: Progress | None,
    checkpoint: "Path | str | None",
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a smooth point from products with the Hessian.

    Args:
        risk: the empirical risk.
        field: R and ∇R around θ.
        gradient: ∇R, (M,).
        tolerance: ‖∇R‖ up to which the point counts as critical.
        kinks: the kinks around the point.
        max_products: how many products may be taken.
        progress: called with (products done, products at most).
        checkpoint: a folder in which products are recorded, or None.
        evidence: what is found is added to it.

    Returns:
        "not critical" with a plateau reading, "strict saddle", "minimum candidate" or "undecided".
    """
    length = float(gradient.norm())
    settings = {"work": "certificate", "products": max_products, "critical": length <= tolerance}
    H = recorded(risk.hessian(), checkpoint, settings)
    if length > tolerance:
        if not bool((gradient.abs() > gradient_rounding(risk)).any()):
            return Verdict(
                "undecided", f"‖∇R‖ = {length:.1e} is above the tolerance {tolerance:.0e}, but may be rounding"
            )
        reading = plateau_reading(risk, max_products=max_products, hessian=H, progress=progress)
        evidence |= {"plateau": reading.to_dict(), "method": "Krylov spaces of products"}
        return Verdict("not critical", f"‖∇R‖ = {length:.1e} is above the tolerance {tolerance:.0e}")
    counts = partial_inertia(H, gradient_norm=length, max_products=max_products, progress=progress)
    evidence |= {"partial_inertia": counts.to_dict(), "method": counts.method}
    rough = roughness(risk, field, H, kinks, evidence)
    if rough is not None:
        return Verdict("undecided", f"{rough}, so that the Hessian need not be that of all sides")
    away = _not_near(risk, H, gradient, counts.tolerance) or _saturated(field, H, counts.tolerance)
    if away is not None:
        return Verdict("undecided", away)
    if counts.negative_at_least == 0:
        return _without_descent(counts)
    lowest = most_negative_eigenpair(
        H, tolerance=1e-3, max_products=max_products, progress=_after(counts.products, progress)
    )
    if not bool(lowest.converged[0]):
        return Verdict("undecided", f"{_count(counts)}, but the smallest eigenvalue is {lowest.status['smallest']}")
    value, residual = float(lowest.values[0]), float(lowest.residuals[0])
    moved = _moved(risk, H, gradient, lowest.vectors[:, 0], counts.tolerance)
    bound = residual + counts.tolerance + 2 * moved
    evidence |= {"smallest_eigenvalue": value, "eigenvalue_error_bound": bound}
    if value < -_DECIDED * bound:
        return Verdict("strict saddle", f"{_count(counts)}, with λ = {value:.3e} ± {bound:.0e}")
    return Verdict("undecided", f"λ = {value:.3e} is not ten times its error bound {bound:.0e} below zero")


def _not_near(
    risk: EmpiricalRisk, H: SymmetricOperator, gradient: Float[Tensor, " M"], resolution: float
) -> str | None:
    """Say why no critical point may be next to θ; None where Newton's steps in Krylov spaces contract."""
    theta, first = risk.flatten(), newton_step(H, gradient, resolution)
    eps = torch.finfo(theta.dtype).eps
    moved = risk.at(risk.unflatten(theta + first))
    second = newton_step(H, moved.gradient(), resolution)
    lengths = float(first.norm()), float(second.norm())
    # The shortest step that a gradient of rounding alone would make along the best known curvature.
    scale = float((H @ (first / lengths[0])).norm()) if lengths[0] > 0 else 1.0
    if lengths[1] > _CONTRACTION * lengths[0] and lengths[0] > _ROUNDINGS * (
        eps * float(theta.norm()) + float(gradient_rounding(risk).norm()) / max(scale, _TINY)
    ):
        return f"Newton's steps do not contract: they are {lengths[0]:.1e} and {lengths[1]:.1e} long"
    if lengths[0] > _NEAR * (1 + float(theta.norm())):
        return f"the nearest critical point is {lengths[0]:.1e} away"
    left = visible_gradient(moved.at(moved.unflatten(theta + first + second)), H, hessian_rounding(H))
    if left > _VISIBLE:
        return f"where Newton's steps end a gradient of {left:.0e} times its rounding is left: θ may run to infinity"
    return None


def _saturated(field: Field, H: SymmetricOperator, resolution: float) -> str | None:
    """Say that parameters which R does not see at θ are seen on the way to the origin; None where there are no such."""
    draws = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (H.size, _PROBES), generator=draws, dtype=torch.float64) * 2 - 1
    unseen = (H @ signs.to(field.theta)).abs().amax(dim=1) <= resolution
    if not bool(unseen.any()):
        return None
    inwards = torch.stack([field.theta * (1 - fraction) for fraction in _INWARDS])
    seen = (field.gradients(inwards).abs() > _SEEN * field.gradient_noise(inwards)).any(dim=0)
    count = int((unseen & seen).sum())
    if not count:
        return None
    return f"{count} parameter(s) without effect at θ have one nearer to the origin: θ may run to infinity"


def _after(before: int, progress: Progress | None) -> Progress | None:
    """Return a progress that goes on where earlier work ended."""
    return None if progress is None else lambda done, total: progress(before + done, before + total)


def _without_descent(counts: PartialInertia) -> Verdict:
    """Judge a point where no negative eigenvalue was found."""
    if not counts.complete:
        return Verdict("undecided", f"no negative eigenvalue was found in {counts.products} products, none is excluded")
    chance = f"one is missed with a chance of at most {counts.chance:.0e}"
    return Verdict("minimum candidate", f"no eigenvalue lies below −{counts.tolerance:.0e} ({chance}); zeros uncounted")


def _count(counts: PartialInertia) -> str:
    """Say what is proved."""
    return (
        f"at least {counts.negative_at_least} negative and {counts.positive_at_least} positive eigenvalues are proved"
    )


def _moved(
    risk: EmpiricalRisk,
    H: SymmetricOperator,
    gradient: Float[Tensor, " M"],
    direction: Float[Tensor, " M"],
    resolution: float,
) -> float:
    """Return by how much the curvature along a direction changes on the way to the critical point next to this one."""
    step = newton_step(H, gradient, resolution)
    there = risk.hessian(risk.unflatten(risk.flatten() + step))
    return abs(float(direction @ (there @ direction - H @ direction)))
