"""Judging a critical point by its eigenvalues: which zeros are known to be flat, and whether R falls along others."""

from typing import Any

from torch import Tensor

from liftscape.critical._field import Field
from liftscape.critical._higher_order import descent_in_null_space
from liftscape.critical._null_profile import null_profile
from liftscape.critical._reduced import ReducedRisk, reduced_risk
from liftscape.critical._spectrum import Spectrum, explain_zeros
from liftscape.critical._underflow import underflows
from liftscape.critical._verdict import Verdict, verdict_of_inertia
from liftscape.curvature import FlatManifold
from liftscape.risk import EmpiricalRisk

__all__ = ["judge_zeros"]


def judge_zeros(
    risk: EmpiricalRisk,
    field: Field,
    spectrum: Spectrum,
    known_flat: "FlatManifold | Tensor | int | None",
    piecewise: bool,
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a smooth critical point; R is followed along its null directions, also along those said to be flat.

    Args:
        risk: the empirical risk.
        field: R and ∇R around the point.
        spectrum: of its Hessian.
        known_flat: as in :func:`certify`.
        piecewise: whether the network has kinks.
        evidence: what is found is added to it.

    Returns:
        The kind with its reason.
    """
    explained = explain_zeros(risk, spectrum, known_flat)
    evidence |= {
        "explained_zeros": explained.dimension,
        "known_flat": explained.flat[0],
        "known_flat_verified": explained.flat[1],
        "symmetries": explained.symmetries,
    }
    verdict = verdict_of_inertia(spectrum.with_known_zeros(explained.dimension), explained.dimension)
    inertia = spectrum.inertia
    if not inertia.zero:
        return verdict
    reduced = reduced_risk(field, spectrum)
    profile = null_profile(reduced, piecewise)
    evidence |= {"null_profile": profile.to_dict()}
    counts = f"(n₋, n₀, n₊) = {inertia.triple}"
    if profile.shapes["sloped"]:
        return Verdict(
            "undecided", f"{counts}, but ∇R does not vanish towards θ along null directions: θ may run to infinity"
        )
    evidence |= {"null_directions_searched": inertia.zero, "higher_order_descent": None}
    smooth = not inertia.negative and not profile.shapes["curved"]
    # Where ∇ρ is rounding along every direction there is nothing that a search could follow.
    if smooth and not profile.only("flat"):
        descent = _descent(risk, reduced, spectrum, evidence)
        if descent is not None:
            return descent
    if not profile.only("flat", "higher order", "curved") and inertia.zero > explained.dimension:
        return Verdict(
            "undecided",
            f"{counts}, but along null directions that nothing explains R changes far from θ alone, or could "
            "not be followed: θ may run to infinity",
        )
    if inertia.negative:
        return verdict
    if profile.shapes["curved"]:
        curvature = f"a curvature of {profile.curvature:.1e} along a null direction"
        return Verdict("undecided", f"{curvature} lies below the error bound {spectrum.uncertainty:.0e} of eigenvalues")
    # Structure may have tails that only show far away; what a caller says in numbers has to hold as far as it is seen.
    seen = ("flat",) if isinstance(known_flat, (int, Tensor)) else ("flat", "far")
    if verdict.kind == "degenerate local minimum" and not profile.only(*seen):
        what = (
            f"it changes to order {profile.order}, without a descent that was found"
            if profile.order
            else ("it could not be followed")
        )
        return Verdict("minimum candidate", f"{counts}, with {explained.dimension} zeros said to be flat, but {what}")
    if verdict.kind == "degenerate local minimum" and underflows(risk, field):
        return Verdict("minimum candidate", f"{counts}, but numbers underflow to zero, which may hide what R does")
    return verdict


def _descent(risk: EmpiricalRisk, reduced: ReducedRisk, spectrum: Spectrum, evidence: dict[str, Any]) -> Verdict | None:
    """Search a descent of higher order along the null directions."""
    found = descent_in_null_space(risk, reduced)
    if found is None:
        return None
    evidence |= {
        "higher_order_descent": found.order,
        "higher_order_constant": found.constant,
        "higher_order_steps": found.steps,
        "higher_order_decreases": found.decreases,
    }
    seen = f"seen at {len(found.steps)} steps h from {found.steps[0]:.1e} to {found.steps[-1]:.1e}"
    fall = f"R falls along a curve by {found.constant:.2e}·h^{found.order}"
    return Verdict("saddle", f"(n₋, n₀, n₊) = {spectrum.inertia.triple}, and {fall}, {seen}")
