"""Where training stands at a point that need not be critical: what the next steps would gain, and the way down."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._best_steps import Step, best_steps
from liftscape.curvature._eigenpairs import most_negative_eigenpair
from liftscape.curvature._quadratic_model import QuadraticModel, krylov_model
from liftscape.curvature._work import Progress
from liftscape.operators import SymmetricOperator, all_finite
from liftscape.outcomes import LiftscapeError, NotFiniteError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Plateau", "plateau_of_spectrum", "plateau_reading"]

State = Literal["slope", "plateau", "flat", "not finite"]
Found = Literal["converged", "upper bound"]
_Lowest = tuple[float, float, Found]

# A gain of less than this share of the risk is none that a training curve shows.
_VISIBLE = 0.01
_RADIUS = 0.1


@final
@dataclass(frozen=True)
class Plateau(Outcome):
    """Where training stands.

    Attributes:
        state: "slope", "plateau", "flat" or "not finite", see :func:`plateau_reading`.
        value: R(θ).
        gradient_norm: ‖∇R‖.
        parameter_norm: ‖θ‖.
        relative_gradient: ‖∇R‖·‖θ‖/|R|, the relative fall of R per relative move of θ.
        radius: the longest step considered.
        gradient_step: the best step along −∇R.
        newton_step: the best step of all.
        lowest_curvature: the most negative curvature found, a Ritz value of H; the smallest eigenvalue lies below it
            or at most curvature_bound above it.
        curvature_bound: an eigenvalue of H lies within this of it; inf where none is known.
        curvature_status: "converged" if it is the smallest eigenvalue, else "upper bound".
        reading: one sentence.
        products: how many products with H were taken.
    """

    state: State
    value: float
    gradient_norm: float
    parameter_norm: float
    relative_gradient: float
    radius: float
    gradient_step: Step
    newton_step: Step
    lowest_curvature: float
    curvature_bound: float
    curvature_status: Found
    reading: str
    products: int

    @property
    def descends(self) -> bool:
        """Whether negative curvature is proved."""
        return self.lowest_curvature + self.curvature_bound < 0


def plateau_reading(
    risk: EmpiricalRisk,
    *,
    radius: float = _RADIUS,
    steps: int = 30,
    max_products: int = 300,
    lowest: tuple[float, float] | tuple[float, float, Found] | None = None,
    hessian: SymmetricOperator | None = None,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
) -> Plateau:
    """Read where training stands: what one gradient step, and one Newton step, gain, and whether R curves down.

    Both steps minimise m(p) = ∇Rᵀp + ½ pᵀHp over ‖p‖ ≤ r: the one along −∇R, where the gain is ‖∇R‖⁴/(2 ∇RᵀH∇R) if the
    bound is not reached, the other in the Krylov space of ∇R, where it is then Newton's step if H is positive there.
    The bound gives both a meaning on singular and indefinite H, too; r starts at radius·‖θ‖ and is halved until R falls
    by a quarter of what m says. "slope": the gradient step lowers R by 1 % of |R|; "plateau": it does not, but the
    Newton step does; "flat": neither does; "not finite": R, its gradient or a product is not, as the reading says.

    Source: Gould, Lucidi, Roma, Toint 1999, SIAM J. Optim. 9, for the step in the Krylov space; the reading is derived.

    Args:
        risk: the empirical risk.
        radius: the longest step relative to ‖θ‖ (absolute at θ = 0).
        steps: dimension of the Krylov space.
        max_products: how many further products the most negative curvature may take.
        lowest: the smallest eigenvalue and its residual bound where they are known already, with their status where
            that is not "converged".
        hessian: H at the model's parameters where it is at hand, as with a kept graph or recorded products.
        generator: draws the start of that search; seed 0 when None.
        progress: called with (products done, products at most).

    Returns:
        The reading; its steps and its curvature are NaN where R, its gradient or a product is not finite.

    Raises:
        LiftscapeError: if radius or steps is not positive.

    Example:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> model = torch.nn.Linear(1, 1, dtype=torch.float64)
        >>> _ = model.weight.data.fill_(2.0), model.bias.data.fill_(0.0)
        >>> plateau_reading(EmpiricalRisk(model, "mse", (x, 2 * x + 0.1))).state
        'slope'
    """
    require_risk(risk, "plateau_reading")
    if not radius > 0 or steps < 1:
        raise LiftscapeError(f"radius and steps must be positive, but {radius} and {steps} were given.")
    gradient, H = risk.gradient(), risk.hessian() if hessian is None else hessian
    if fault := _not_finite(risk, gradient):
        return _unreadable(risk, gradient, radius, fault)
    try:
        return _within_krylov_space(risk, H, gradient, radius, steps, max_products, lowest, generator, progress)
    except NotFiniteError as error:
        return _unreadable(risk, gradient, radius, f"The Hessian is not finite here: {error}")


def _not_finite(risk: EmpiricalRisk, gradient: Float[Tensor, " M"]) -> str:
    """Say that R or its gradient is not finite, and where; nothing where both are."""
    if not isfinite(value := float(risk.value())):
        return f"R is not finite here: it is {value}."
    names = [f"'{name}'" for name, part in risk.unflatten(gradient).items() if not all_finite(part)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"The gradient is not finite here, in {', '.join(names[:3])}{more}." if names else ""


def _unreadable(risk: EmpiricalRisk, gradient: Float[Tensor, " M"], radius: float, fault: str) -> Plateau:
    """Return the reading of a point where something is not finite."""
    value, length, size = float(risk.value()), float(gradient.norm()), float(risk.flatten().norm())
    nothing = Step(nan, nan, nan)
    longest = radius * (size or 1.0)
    return Plateau("not finite", value, length, size, nan, longest, nothing, nothing, nan, inf, "upper bound", fault, 0)


def _within_krylov_space(
    risk: EmpiricalRisk,
    H: SymmetricOperator,
    gradient: Float[Tensor, " M"],
    radius: float,
    steps: int,
    max_products: int,
    lowest: tuple[float, float] | tuple[float, float, Found] | None,
    generator: torch.Generator | int | None,
    progress: Progress | None,
) -> Plateau:
    """Read a point where R and its gradient are finite."""
    model = krylov_model(H, gradient, steps, progress)
    used = 0 if model is None else model.products
    if lowest is not None:
        known: _Lowest = lowest if len(lowest) == 3 else (*lowest, "converged")
        return _read(risk, gradient, model, radius, known, used)

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(used + done, steps + max_products)

    # A thousandth of the scale tells a sign; digits of the eigenvalue are not asked for.
    found = most_negative_eigenpair(H, tolerance=1e-3, max_products=max_products, generator=generator, progress=advance)
    curvature: _Lowest = (
        (inf, inf, "upper bound") if model is None else (float(model.values[0]), model.bound, "upper bound")
    )
    if isfinite(value := float(found.values[0])):
        settled = found.status["smallest"] == "converged"
        curvature = (value, float(found.residuals[0]), "converged" if settled else "upper bound")
    return _read(risk, gradient, model, radius, curvature, used + found.products)


def plateau_of_spectrum(
    risk: EmpiricalRisk,
    *,
    gradient: Float[Tensor, " M"],
    eigenvalues: Float[Tensor, " M"],
    vectors: Float[Tensor, "M M"],
    bound: float,
    radius: float = _RADIUS,
) -> Plateau:
    """Return the reading of a point whose whole spectrum is known.

    Source: as :func:`plateau_reading`.

    Args:
        risk: the empirical risk.
        gradient: ∇R, (M,).
        eigenvalues: of the Hessian, ascending, (M,).
        vectors: as columns, (M, M).
        bound: error bound of the eigenvalues.
        radius: as for :func:`plateau_reading`.

    Returns:
        The reading.
    """
    require_risk(risk, "plateau_of_spectrum")
    model = QuadraticModel(eigenvalues, vectors.T @ gradient, lambda s: vectors @ s, bound, 0)
    return _read(risk, gradient, model, radius, (float(eigenvalues[0]), bound, "converged"), 0)


def _read(
    risk: EmpiricalRisk,
    gradient: Float[Tensor, " M"],
    model: QuadraticModel | None,
    radius: float,
    lowest: _Lowest,
    products: int,
) -> Plateau:
    """Take the two steps and say what they come to."""
    value, length, size = float(risk.value()), float(gradient.norm()), float(risk.flatten().norm())
    longest = radius * (size or 1.0)
    steps = Step(0.0, 0.0, 0.0), Step(0.0, 0.0, 0.0)
    if model is not None and length > 0:
        steps = best_steps(risk, gradient, model, longest)
    shares = [step.decrease / abs(value) if value else 0.0 for step in steps]
    relative = length * size / abs(value) if value else (inf if length else 0.0)
    state = "slope" if shares[0] >= _VISIBLE else "plateau" if shares[1] >= _VISIBLE else "flat"
    reading = _sentence(state, shares, radius, lowest)
    return Plateau(state, value, length, size, relative, longest, *steps, *lowest, reading, products)


def _sentence(state: State, shares: Sequence[float], radius: float, lowest: _Lowest) -> str:
    """Say the reading in words."""
    curvature, bound, _ = lowest
    gradient, newton = (f"{100 * max(share, 0.0):.2g} %" for share in shares)
    opening = {
        "slope": f"On a slope: one gradient step lowers R by {gradient}, one Newton step by {newton}",
        "plateau": f"On a plateau with a way down: the best gradient step lowers R by {gradient} only, but one Newton "
        f"step by {newton}",
        "flat": f"Flat within {radius:g}·‖θ‖: the best gradient step lowers R by {gradient}, a Newton step by {newton}",
    }[state]
    if curvature + bound < 0:
        return f"{opening}; R curves down, λ = {curvature:.2g} ± {bound:.0e}."
    if not isfinite(curvature):
        return f"{opening}; no curvature was found."
    return f"{opening}; no negative curvature is proved, the lowest found is {curvature:.2g} ± {bound:.0e}."
