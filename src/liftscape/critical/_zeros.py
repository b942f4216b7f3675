"""Judging a critical point by its eigenvalues: which zeros are known to be flat, and whether R falls along others."""

from typing import Any

from torch import Tensor

from liftscape.critical._higher_order import descent_in_null_space
from liftscape.critical._spectrum import Spectrum, explain_zeros
from liftscape.critical._verdict import Verdict, verdict_of_inertia
from liftscape.curvature import FlatManifold
from liftscape.risk import EmpiricalRisk

__all__ = ["judge_zeros"]

# The search along null directions takes a thousand gradients, and more with every null direction.
_SEARCHED = 500


def judge_zeros(
    risk: EmpiricalRisk,
    spectrum: Spectrum,
    known_flat: "FlatManifold | Tensor | int | None",
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a smooth critical point; a descent of higher order is sought where zeros remain that nothing explains.

    Args:
        risk: the empirical risk.
        spectrum: of its Hessian.
        known_flat: as in :func:`certify`.
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
    if inertia.negative or inertia.zero <= explained.dimension or risk.size > _SEARCHED:
        return verdict
    found = descent_in_null_space(risk, spectrum)
    evidence |= {
        "null_directions_searched": inertia.zero,
        "higher_order_descent": None if found is None else found.order,
    }
    if found is None:
        return verdict
    evidence |= {
        "higher_order_constant": found.constant,
        "higher_order_steps": found.steps,
        "higher_order_decreases": found.decreases,
    }
    seen = f"seen at {len(found.steps)} steps h from {found.steps[0]:.1e} to {found.steps[-1]:.1e}"
    fall = f"R falls along a curve by {found.constant:.2e}·h^{found.order}"
    return Verdict("saddle", f"(n₋, n₀, n₊) = {inertia.triple}, and {fall}, {seen}")
