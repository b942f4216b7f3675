"""What kind of point a network stands at, with the evidence for it."""

from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._sketch import spectrum
from liftscape.critical._criticality import contraction
from liftscape.critical._evidence import kink_evidence, spectrum_evidence
from liftscape.critical._field import Field, field_at
from liftscape.critical._flatness import FLAT
from liftscape.critical._kinked import descends, judge_kinked, jumps
from liftscape.critical._kinks import KinkMargin, kink_margin
from liftscape.critical._large import judge_large
from liftscape.critical._noise import gradient_rounding
from liftscape.critical._one_sided import one_sided_descent
from liftscape.critical._output_curvature import output_curvature
from liftscape.critical._search import CriticalSearch
from liftscape.critical._smoothness import roughness
from liftscape.critical._spectrum import Spectrum, spectrum_at
from liftscape.critical._verdict import ADVICE, Kind, Verdict
from liftscape.critical._zeros import judge_zeros
from liftscape.curvature import FlatManifold, Inertia, Progress, plateau_of_spectrum
from liftscape.functional import untouched
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Certificate", "certify"]


@dataclass(frozen=True)
class Certificate(Outcome):
    """What kind of point it is, and why.

    Attributes:
        kind: see :func:`certify`.
        gradient_norm: ‖∇R‖.
        inertia: (n₋, n₀, n₊) with threshold and margin; None where R is not twice differentiable or not finite, or
            where the Hessian is too large to be diagonalised.
        degeneracy: n₀; None where there is no inertia.
        kink_margin: smallest distance of a pre-activation on the data to a point where slopes differ; inf without.
        evidence: what the kind rests on: eigenvalues with their error bound, flatness, layers, dtype, tolerance; with
            the named losses ‖H₂‖_F, H₂ = Σ_i ∂_iℓ ∇²f_i (``curvature_of_outputs``), whose vanishing is necessary for a
            point that no wider network makes a strict saddle (``may_be_truly_bad``).
        reason: one sentence.
        advice: what to do next.
    """

    kind: Kind
    gradient_norm: float
    inertia: Inertia | None
    degeneracy: int | None
    kink_margin: float
    evidence: dict[str, Any]
    reason: str
    advice: str

    def _figure(self) -> str:
        return spectrum(values, "eigenvalues of the Hessian") if (values := self.evidence.get("spectrum")) else ""


def certify(
    risk: EmpiricalRisk,
    *,
    known_flat: "FlatManifold | Tensor | int | None" = None,
    search: CriticalSearch | None = None,
    tolerance: float = 1e-9,
    max_parameters: int = 4000,
    max_products: int = 300,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Certificate:
    """Certify what kind of point the risk's model stands at.

    A point is critical if ‖∇R‖ ≤ tolerance and Newton's steps from it contract, with no gradient left that rounding
    does not explain. Eigenvalues of ∇²R count as zero below their error bound
    10·M·eps·‖H‖ + 2·‖H − Hᵀ‖ + ρ + max(10·‖∇R‖, 2·‖H(θ + p) − H(θ)‖), ρ what rounding of every operation makes of H, p
    Newton's step; n₋ and n₀ are decided if the smallest counted |λ| is ten times that. Derivatives are compared with
    differences of values first, and every operation on a parameter with a list of smooth ones. The kinds:

    * "local minimum": n₋ = n₀ = 0. "degenerate local minimum": n₋ = 0, n₀ is the dimension of the span of known_flat
      and of the symmetries, and ∇R stays within rounding along the null directions, so that R is Morse-Bott there.
      "minimum candidate": n₋ = 0, other zeros remain.
    * "strict saddle": an eigenvalue below minus ten times its error bound (a maximum is one, too).
    * "saddle": n₋ = 0, but R falls along a curve to an order p ≥ 3, as :func:`higher_order_descent` finds it; sought
      wherever ∇R is seen to grow along null directions, also along those of known_flat.
    * "non-smooth stationary": a sample on a kink, 0 a generalised gradient; "one-sided saddle": R falls from there.
    * "gradient-flat": ‖∇R‖ is not small but lies in the Hessian's kernel, r > 0.9. "not critical": there is a gradient,
      or at a kink R is seen to fall against every generalised one. "diverging": said by a search alone.
    * "undecided": none of these is certain, as where θ may run to infinity, or an operation may have kinks of which
      nothing is known.

    Beside the dense Hessian, M products, it takes some seventy readings of the data and some thousand gradients that
    are vectorised where the module allows it.

    Source: derived (theory T4, T5); strict saddles as in Lee et al. 2016 (arXiv 1602.04915), gradient-flat points as in
    Frye et al. 2020 (arXiv 2003.10397).

    Args:
        risk: the empirical risk, float64 for decided answers; its model is left as it was.
        known_flat: a manifold along which R is constant, such as a LiftedManifold of this model, or directions (M, d)
            as columns, or the dimension of all that is flat, symmetries included.
        search: the search that found the point; its model is certified on the risk's data.
        tolerance: ‖∇R‖ up to which the point counts as critical.
        max_parameters: largest M for which the dense Hessian is taken; beyond it negative eigenvalues are counted as
            far as residual bounds prove them, and nothing is said about zeros.
        max_products: how many products may be taken beyond it.
        progress: called with (products done, products at most) beyond it.
        checkpoint: a folder in which products are recorded beyond it, so that the work resumes there after a kill.

    Returns:
        The kind with its evidence.

    Raises:
        LiftscapeError: if known_flat has not M rows.
        ModelError: if the model uses a function without a second derivative in torch.

    Example:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> model = torch.nn.Linear(1, 1, dtype=torch.float64)
        >>> _ = model.weight.data.fill_(2.0), model.bias.data.fill_(0.0)
        >>> found = certify(EmpiricalRisk(model, "mse", (x, 2 * x)))
        >>> found.kind, found.inertia.triple
        ('local minimum', (0, 0, 2))
    """
    require_risk(risk, "certify")
    risk = risk if search is None else risk.with_model(search.model)
    known_flat = int(known_flat) if isinstance(known_flat, np.integer) else known_flat
    # A module may count its calls, and a loader draw from the generator that training draws from.
    with untouched(risk.model):
        return _certified(risk, known_flat, tolerance, max_parameters, max_products, progress, checkpoint, search)


def _certified(
    risk: EmpiricalRisk,
    known_flat: "FlatManifold | Tensor | int | None",
    tolerance: float,
    max_parameters: int,
    max_products: int,
    progress: Progress | None,
    checkpoint: "Path | str | None",
    search: CriticalSearch | None,
) -> Certificate:
    """Certify the point at which the risk's model stands."""
    gradient = risk.gradient()
    if gradient.dtype not in {torch.float32, torch.float64}:
        raise LiftscapeError(
            f"certify takes eigenvalues in float32 or float64, but the parameters of {type(risk.model).__name__} are "
            f"{gradient.dtype}; convert model and data to float64."
        )
    largest = float(gradient.abs().max())
    length = largest * float((gradient / largest).norm()) if 0 < largest < inf else largest
    value = float(risk.value())
    evidence: dict[str, Any] = {
        "value": value,
        "parameters": risk.size,
        "samples": risk.batches.samples,
        "dtype": str(gradient.dtype),
        "tolerance": tolerance,
    }
    if not (isfinite(length) and isfinite(value)):
        kind = "undecided" if isfinite(value) else "not critical"
        verdict = Verdict(kind, f"R = {value} and ‖∇R‖ = {length} are not finite")
        return _certificate(verdict, length, None, KinkMargin(), evidence)
    risk.check_derivatives()
    if search is not None and search.status == "diverging":
        return _certificate(Verdict("diverging", search.reason), length, None, kink_margin(risk), evidence)
    kinks = kink_margin(risk)
    evidence |= kink_evidence(kinks)
    field = field_at(risk)
    if _kinked(field, gradient, kinks, tolerance):
        verdict = judge_kinked(risk, field, kinks, tolerance, max_products, evidence)
        return _certificate(verdict, length, None, kinks, evidence)
    if risk.size > max_parameters:
        verdict = judge_large(risk, field, gradient, tolerance, kinks, max_products, progress, checkpoint, evidence)
        return _certificate(verdict, length, None, kinks, evidence)
    spectrum = spectrum_at(risk, gradient, near=length <= tolerance)
    evidence |= spectrum_evidence(spectrum)
    if length > tolerance:
        verdict = _with_a_gradient(risk, spectrum, gradient, tolerance, evidence)
    else:
        verdict = _smooth_verdict(risk, field, spectrum, kinks, tolerance, known_flat, max_products, evidence)
    spectrum = spectrum.with_known_zeros(evidence.get("explained_zeros", 0))
    return _certificate(verdict, length, spectrum.inertia, kinks, evidence)


def _kinked(field: Field, gradient: Float[Tensor, " M"], kinks: KinkMargin, tolerance: float) -> bool:
    """Tell whether θ is to be judged as a point where slopes differ."""
    if kinks.on_kink:
        return True
    if not float(gradient.norm()) > tolerance:
        return bool(kinks.unlisted) and jumps(field, gradient)
    # Where a gradient is left because rounding put θ beside a kink, R does not fall against it.
    return (kinks.beside and not descends(field, gradient)) or jumps(field, gradient)


def _with_a_gradient(
    risk: EmpiricalRisk,
    spectrum: Spectrum,
    gradient: Float[Tensor, " M"],
    tolerance: float,
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a point whose gradient is above the tolerance."""
    length = float(gradient.norm())
    evidence["plateau"] = plateau_of_spectrum(
        risk, gradient=gradient, eigenvalues=spectrum.eigenvalues, vectors=spectrum.vectors, bound=spectrum.rounding
    ).to_dict()
    rounding = gradient_rounding(risk)
    if not bool((gradient.abs() > rounding).any()):
        return Verdict("undecided", f"‖∇R‖ = {length:.1e} is above the tolerance {tolerance:.0e}, but may be rounding")
    # Curvatures that Newton methods leave out may be resolved all the same; along these the gradient descends.
    unresolved = spectrum.vectors[:, spectrum.eigenvalues.abs() <= spectrum.rounding]
    if spectrum.flatness > FLAT and float((gradient @ unresolved).norm()) > FLAT * length:
        return Verdict("gradient-flat", f"‖∇R‖ = {length:.1e} is not small but lies in the Hessian's kernel")
    return Verdict("not critical", f"‖∇R‖ = {length:.1e} is above the tolerance {tolerance:.0e}")


def _smooth_verdict(
    risk: EmpiricalRisk,
    field: Field,
    spectrum: Spectrum,
    kinks: KinkMargin,
    tolerance: float,
    known_flat: "FlatManifold | Tensor | int | None",
    max_products: int,
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a point with a small gradient that lies on no known kink."""
    if not kinks.on_curvature_kink and kink_margin(risk, risk.unflatten(risk.flatten() + spectrum.newton)).crossing:
        return Verdict("undecided", "the critical point next to this one may lie on the other side of a kink")
    rough = roughness(risk, field, spectrum.hessian, kinks, evidence)
    if rough is not None:
        sides = one_sided_descent(risk, tolerance, max_products=max_products, field=field)
        evidence |= {"one_sided_descent": sides.descent, "one_sided_rate": sides.rate}
        # Smooth operations have no kink: what looks like one is a structure too small to be resolved.
        if sides.descent and sides.stationary and (kinks.on_curvature_kink or kinks.unlisted):
            return Verdict("one-sided saddle", f"{rough}, and R falls along a half-line")
        return Verdict("undecided", f"{rough}, so that the Hessian need not be that of all sides")
    near = contraction(risk, spectrum.hessian, *spectrum.resolved, spectrum.hessian_rounding)
    evidence["contraction"] = near.to_dict()
    if not near.near:
        return Verdict("undecided", near.reason)
    evidence |= output_curvature(risk, spectrum)
    piecewise = min(kinks.margin, kinks.curvature_margin) < inf
    return judge_zeros(risk, field, spectrum, known_flat, piecewise, evidence)


def _certificate(
    verdict: Verdict, length: float, inertia: Inertia | None, kinks: KinkMargin, evidence: dict[str, Any]
) -> Certificate:
    """Put the certificate together."""
    advice = ADVICE[verdict.kind]
    if evidence["dtype"] != str(torch.float64) and verdict.kind in {"undecided", "not critical", "gradient-flat"}:
        advice = (
            f"convert model and data to float64, since {evidence['dtype']} blurs gradients and eigenvalues; {advice}"
        )
    degeneracy = None if inertia is None else inertia.zero
    reason = f"{verdict.reason}."
    return Certificate(verdict.kind, length, inertia, degeneracy, kinks.margin, evidence, reason, advice)
