"""What a search for extreme eigenvalues came to."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liftscape._sketch import spectrum
from liftscape.curvature._found import End, Extremes
from liftscape.outcomes import Outcome, to_plain

__all__ = ["ROUNDED", "UNRESOLVED", "Eigenpairs", "pairs_of", "within_bounds", "without_symmetry"]

# The advice where bounds are wide because of rounding.
ROUNDED = "Take the products in float64 for bounds as tight as asked for, or data nearer to 0 and of like sizes."

# The advice where a value lies within its resolution of zero.
UNRESOLVED = "Give a smaller tolerance, or take the products in float64, to tell the values at that end from zero."


@final
@dataclass(frozen=True)
class Eigenpairs(Outcome):
    """Eigenvalues at the ends of a spectrum with their vectors and bounds.

    Attributes:
        values: ascending by place, (m,), float64; NaN where a value of an end has not converged.
        vectors: unit vectors as columns, (M, m), in the operator's dtype, on its device; of a value that has not
            converged the best so far.
        residuals: a bound of ‖Hv − λv‖ with what the products were seen to lack of symmetry, so that an eigenvalue of
            a symmetric H lies within it of λ; inf beside NaN. H is the operator as computed: what rounding does to all
            products alike, such as by batch statistics of data far from 0, is not in it.
        converged: which have, (m,); none where the status is "unresolved" or "asymmetric".
        status: by end, "converged" (its values have, and no other was missed but with the chance below),
            "unverified" (its values have, but others may have been missed), "unresolved" (its values are within the
            tolerance, relative to the largest |value|, but at this end that or rounding hides the sign of one or the
            order: what was found stays, with a bound that covers what may lie beyond), "not converged" or "asymmetric"
            (the products lack more than 1 % of the largest |value| of symmetry, so that the operator is not symmetric
            or rounding is too large to trust a value, though what was found stays, with its bound).
        chance: by end, a bound of the probability, over the random vectors, that an eigenvalue beyond the resolution
            was missed.
        resolution: by end, how far beyond the end's last value another eigenvalue could lie unseen; inf where that is
            not known.
        reason: one sentence.
        advice: one sentence, empty where all is well.
        products: how many products of H with a vector were taken.
        method: how the values were found.
    """

    values: Float[Tensor, " m"]
    vectors: Float[Tensor, "M m"]
    residuals: Float[Tensor, " m"]
    converged: Bool[Tensor, " m"]
    status: Mapping[str, str]
    chance: Mapping[str, float]
    resolution: Mapping[str, float]
    reason: str
    advice: str
    products: int
    method: str

    @property
    def smallest(self) -> Float[Tensor, " k"]:
        """The values at the lower end, smallest first; empty if that end was not asked for."""
        return self.values[: len(self.values) // len(self.status)] if "smallest" in self.status else self.values[:0]

    @property
    def largest(self) -> Float[Tensor, " k"]:
        """The values at the upper end, largest first; empty if that end was not asked for."""
        if "largest" not in self.status:
            return self.values[:0]
        return self.values[len(self.values) - len(self.values) // len(self.status) :].flip(0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without the vectors.

        Returns:
            A dict that :mod:`json` can write.
        """
        return {field.name: to_plain(getattr(self, field.name)) for field in fields(self) if field.name != "vectors"}

    def _figure(self) -> str:
        return spectrum(self.values.tolist(), "eigenvalues found")


def pairs_of(found: Extremes, ends: tuple[End, ...], k: int, products: int) -> Eigenpairs:
    """Say what a search came to."""
    method = f"thick-restart Lanczos with {found.rows} stored vectors, full reorthogonalisation"
    status, late, converged = {}, [], found.converged.clone()
    for index, end in enumerate(ends):
        good = bool(found.converged[index * k : (index + 1) * k].all())
        known = "converged" if end in found.certain else "unresolved"
        status[end] = (known if end in found.chance else "unverified") if good else "not converged"
        late += [] if status[end] == "converged" else [end]
        converged[index * k : (index + 1) * k] &= not good or end in found.certain
    count = int(converged.sum())
    reason = (
        f"{f'All {count} values' if count > 1 else 'The value'} converged, and {_proof(found)}."
        if not late
        else f"After {products} products {count} of {len(ends) * k} values had converged, and the "
        f"{' and the '.join(f'{end} end is {status[end]}' for end in late)}."
    )
    pairs = Eigenpairs(
        torch.where(found.converged, found.values, torch.nan),
        found.vectors,
        torch.where(found.converged, found.residuals, torch.inf),
        converged,
        status,
        {end: found.chance.get(end, 1.0) for end in ends},
        {end: found.resolution.get(end, float("inf")) for end in ends},
        reason + within_bounds(found.lack),
        _advice(found, status),
        products,
        method,
    )
    return pairs if found.symmetric else without_symmetry(pairs, found.lack)


def _advice(found: Extremes, status: Mapping[str, str]) -> str:
    """Say what to do."""
    if "unresolved" in status.values() and not set(status.values()) & {"unverified", "not converged"}:
        return UNRESOLVED
    late = set(status.values()) != {"converged"}
    return (
        "Allow more products, a larger memory_budget or a larger tolerance." if late else ROUNDED if found.lack else ""
    )


def _proof(found: Extremes) -> str:
    """Say by what the ends were verified."""
    ways = dict.fromkeys(found.proof.values())
    if len(ways) == 1:
        return next(iter(ways))
    return " and ".join(f"at the {end} end {way}" for end, way in found.proof.items())


def without_symmetry(pairs: Eigenpairs, lack: str) -> Eigenpairs:
    """Say of pairs that their products lack more symmetry than rounding explains; values and bounds stay.

    Args:
        pairs: what was found.
        lack: what the products lack, in words.

    Returns:
        The same, none of them converged.
    """
    return replace(
        pairs,
        converged=torch.zeros_like(pairs.converged),
        status=dict.fromkeys(pairs.status, "asymmetric"),
        chance=dict.fromkeys(pairs.chance, 1.0),
        resolution=dict.fromkeys(pairs.resolution, float("inf")),
        reason=f"{_opening(lack)}, which is more than rounding makes of a symmetric operator's.",
        advice="Give (H + Hᵀ)/2 if that is meant, or take the products in float64 if rounding is that large.",
    )


def within_bounds(lack: str) -> str:
    """Say that the bounds allow for what the products lack of symmetry; nothing where they lack nothing."""
    words = "the bounds allow for that, but what rounding does to all products alike is not in them"
    return f" {_opening(lack)}, as rounding can leave them; {words}." if lack else ""


def _opening(words: str) -> str:
    """Begin a sentence."""
    return f"{words[0].upper()}{words[1:]}"
