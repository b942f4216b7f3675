"""From counted eigenvalues to a kind of critical point."""

from dataclasses import dataclass
from typing import Literal

from liftscape.critical._spectrum import Spectrum

__all__ = ["ADVICE", "Kind", "Verdict", "verdict_of_inertia"]

Kind = Literal[
    "local minimum",
    "degenerate local minimum",
    "minimum candidate",
    "strict saddle",
    "saddle",
    "one-sided saddle",
    "non-smooth stationary",
    "gradient-flat",
    "diverging",
    "not critical",
    "undecided",
]

# An eigenvalue this many times its error bound away from zero is decided.
_DECIDED = 10.0

ADVICE: dict[Kind, str] = {
    "local minimum": "nothing is left to decide.",
    "degenerate local minimum": "all zeros are known flat directions; nothing is left to decide.",
    "minimum candidate": "pass known_flat if the point lies on a known manifold; zeros may hide a higher descent.",
    "strict saddle": "R falls along the eigenvector of the smallest eigenvalue, in both senses.",
    "saddle": "follow the curve; R falls along it to an order above two, too slowly for the Hessian to show.",
    "one-sided saddle": "follow the half-line; R falls along it.",
    "non-smooth stationary": "treat the point as non-smooth: the Hessian says nothing here.",
    "gradient-flat": "start elsewhere, or use find_critical_point(method='minimum').",
    "diverging": "the infimum may lie at infinity; start elsewhere, or give noisier data.",
    "not critical": "polish with find_critical_point, or raise tolerance if this is meant to count.",
    "undecided": "polish to ‖∇R‖ ≤ 1e-13 with find_critical_point, or draw better conditioned weights.",
}


@dataclass(frozen=True)
class Verdict:
    """A kind with its reason.

    Attributes:
        kind: the kind of point.
        reason: a sentence without its full stop.
    """

    kind: Kind
    reason: str


def verdict_of_inertia(spectrum: Spectrum, explained: int) -> Verdict:
    """Judge a critical point from its eigenvalues and from how many zeros are known to be flat.

    Args:
        spectrum: the eigenvalues with their uncertainty.
        explained: dimension of the span of the known flat directions.

    Returns:
        The kind with its reason.
    """
    inertia, bound, lowest = spectrum.inertia, spectrum.uncertainty, float(spectrum.eigenvalues[0])
    counts = f"(n₋, n₀, n₊) = {inertia.triple}"
    if lowest < -_DECIDED * bound:
        others = "" if inertia.decided else ", though further eigenvalues are not decided"
        return Verdict("strict saddle", f"{counts}, with λ = {lowest:.3e} ± {bound:.0e}{others}")
    if not inertia.decided and inertia.zero > explained:
        blurred = (
            f"of the zeros {inertia.zero - explained} may be small eigenvalues, their error bound being {bound:.0e}"
        )
        return Verdict("undecided", f"{counts}, but {blurred}")
    if not inertia.decided:
        margin = f"the smallest counted |λ| is only {inertia.margin:.2g} times its error bound {bound:.0e}"
        return Verdict("undecided", f"{counts}, but {margin}")
    if inertia.positive == 0 and inertia.zero > explained:
        return Verdict("undecided", f"no eigenvalue stands out of the error bound {bound:.0e}")
    if inertia.zero == 0:
        smallest = f"{lowest:.3e} ± {bound:.0e}"
        return Verdict("local minimum", f"{counts}, the smallest eigenvalue being {smallest}")
    if inertia.zero == explained:
        return Verdict("degenerate local minimum", f"{counts}, and all {explained} zeros are known flat directions")
    return Verdict("minimum candidate", f"{counts}, of whose zeros {explained} are known flat directions")
