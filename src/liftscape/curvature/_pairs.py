"""What a search for extreme eigenvalues came to."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liftscape.curvature._extremes import End, Extremes
from liftscape.outcomes import Outcome, to_plain

__all__ = ["Eigenpairs", "pairs_of", "without_symmetry"]


@final
@dataclass(frozen=True)
class Eigenpairs(Outcome):
    """Eigenvalues at the ends of a spectrum with their vectors and bounds.

    Attributes:
        values: ascending by place, (m,), float64; NaN where a value of an end has not converged.
        vectors: unit vectors as columns, (M, m), in the operator's dtype, on its device; of a value that has not
            converged the best so far.
        residuals: a bound of ‖Hv − λv‖, so that an eigenvalue of H lies within it of λ; inf beside NaN.
        converged: which values have converged, (m,).
        status: by end, "converged" (its values have, and no other was missed but with the chance below),
            "unverified" (its values have, but others may have been missed), "not converged" or "asymmetric" (the
            products are not those of a symmetric operator, so that no value is one of its eigenvalues).
        chance: by end, a bound of the probability, over the random vectors, that an eigenvalue was missed.
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


def pairs_of(found: Extremes, ends: tuple[End, ...], k: int, products: int) -> Eigenpairs:
    """Say what a search came to."""
    method = f"thick-restart Lanczos with {found.rows} stored vectors, full reorthogonalisation"
    if found.fault:
        return without_symmetry(found.vectors, ends, found.fault, products, method)
    status, late = {}, []
    for index, end in enumerate(ends):
        good = bool(found.converged[index * k : (index + 1) * k].all())
        status[end] = ("converged" if end in found.chance else "unverified") if good else "not converged"
        late += [] if status[end] == "converged" else [end]
    count = int(found.converged.sum())
    reason = (
        f"{f'All {count} values' if count > 1 else 'The value'} converged, and {_proof(found)}."
        if not late
        else f"After {products} products {count} of {len(ends) * k} values had converged, and the "
        f"{' and the '.join(f'{end} end is {status[end]}' for end in late)}."
    )
    return Eigenpairs(
        torch.where(found.converged, found.values, torch.nan),
        found.vectors,
        torch.where(found.converged, found.residuals, torch.inf),
        found.converged,
        status,
        {end: found.chance.get(end, 1.0) for end in ends},
        reason,
        "Allow more products, a larger memory_budget or a larger tolerance." if late else "",
        products,
        method,
    )


def _proof(found: Extremes) -> str:
    """Say by what the ends were verified."""
    ways = dict.fromkeys(found.proof.values())
    if len(ways) == 1:
        return next(iter(ways))
    return " and ".join(f"at the {end} end {way}" for end, way in found.proof.items())


def without_symmetry(
    vectors: Float[Tensor, "M m"], ends: tuple[End, ...], fault: str, products: int, method: str
) -> Eigenpairs:
    """Return no value where the products are not those of a symmetric operator.

    Args:
        vectors: the best so far, (M, m).
        ends: which ends were asked for.
        fault: what the products lack, in words.
        products: how many were taken.
        method: how.

    Returns:
        NaN with the reason.
    """
    unknown = torch.full((vectors.shape[1],), torch.nan, dtype=torch.float64)
    return Eigenpairs(
        unknown,
        vectors,
        torch.full_like(unknown, torch.inf),
        unknown > 0,
        dict.fromkeys(ends, "asymmetric"),
        dict.fromkeys(ends, 1.0),
        f"{fault[0].upper()}{fault[1:]}.",
        "Give (H + Hᵀ)/2 if that is meant, or take the products in float64 if rounding is that large.",
        products,
        method,
    )
