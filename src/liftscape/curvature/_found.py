"""What a search for extreme eigenvalues has found: values with bounds, and what is known of each end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liftscape.curvature._asymmetry import lacks_symmetry, symmetric_to_rounding, symmetry_shows
from liftscape.curvature._lanczos import Krylov, Ritz
from liftscape.curvature._resolution import TINY, certain_errors, rounding_of

__all__ = ["End", "Extremes", "Verified", "extremes_of", "places_of"]

End = Literal["smallest", "largest"]
# A shift one certain error from its value stays within two of them with rounding, and where the value has moved.
_MOVED = 2.0


@final
@dataclass(frozen=True)
class Extremes:
    """What a search came to: k values for each end, ascending.

    Attributes:
        values: Ritz values, (m,), NaN where there is none yet.
        vectors: unit vectors as columns, (M, m).
        residuals: bounds of ‖Hv − λv‖, (m,).
        converged: which are within the tolerance, (m,); at an end where others are not, those that are certain as well.
        certain: the ends of which sign and order of each value are certain.
        resolution: of the ends that were verified, how far beyond the last value another could lie unseen.
        chance: of the ends that were verified, the bound of the probability that a value was missed.
        proof: of the ends that were verified, by what, in words.
        rows: how many vectors were stored at most.
        lack: what the products lack of symmetry, in words, where it makes the bounds far wider than was asked for.
        symmetric: whether that may be rounding.
    """

    values: Float[Tensor, " m"]
    vectors: Float[Tensor, "M m"]
    residuals: Float[Tensor, " m"]
    converged: Bool[Tensor, " m"]
    certain: set[str]
    resolution: dict[str, float]
    chance: dict[str, float]
    proof: dict[str, str]
    rows: int
    lack: str = ""
    symmetric: bool = True


@final
@dataclass(frozen=True)
class Verified:
    """How an end was verified.

    Attributes:
        chance: the bound of the probability that a value beyond the shift was missed.
        proof: by what, in words.
        shift: beyond which no other value lies.
    """

    chance: float
    proof: str
    shift: float


def places_of(end: End, k: int, n: int) -> list[int]:
    """Return the places of an end's k values among n, ascending.

    Source: none.

    Args:
        end: which.
        k: how many are asked for.
        n: how many there are.

    Returns:
        At most k indices.

    Example:
        >>> places_of("smallest", 2, 5), places_of("largest", 2, 5)
        ([0, 1], [3, 4])
    """
    return list(range(min(k, n))) if end == "smallest" else list(range(max(0, n - k), n))


def extremes_of(
    krylov: Krylov,
    found: Ritz,
    unit: float,
    ends: tuple[End, ...],
    k: int,
    tolerance: float,
    verified: Mapping[str, Verified],
) -> Extremes:
    """Return what a decomposition knows of the ends of a spectrum.

    Source: derived.

    Args:
        krylov: the decomposition.
        found: its Ritz pairs.
        unit: by which the products were multiplied.
        ends: which ends.
        k: how many values at each.
        tolerance: largest ‖Cs‖ relative to the largest |Ritz value|.
        verified: the ends that were verified.

    Returns:
        Values, vectors, bounds, and how far each end is resolved.
    """
    basis, n, total = krylov.basis, len(found.values), k * len(ends)
    chance = {end: known.chance for end, known in verified.items()}
    proof = {end: known.proof for end, known in verified.items()}
    if n < total:
        unknown = torch.full((total,), torch.nan, dtype=torch.float64)
        vectors = basis.rows.new_zeros(basis.size, total)
        return Extremes(unknown, vectors, unknown, unknown > 0, set(), {}, chance, proof, basis.capacity)
    places = [place for end in ends for place in places_of(end, k, n)]
    rounding, wide = rounding_of(krylov, found.scale), tolerance * found.scale
    errors = certain_errors(found.values, rounding, found.scale)
    bounds, certain, resolution = found.residuals.clone(), set(), {}
    good, sure = found.residuals <= wide, found.residuals + rounding <= _MOVED * errors + TINY
    for end in ends:
        own = places_of(end, k, n)
        place = own[0] if end == "largest" else own[-1]
        far = abs(verified[end].shift - float(found.values[place])) if end in verified else wide
        if end in verified:
            resolution[end] = (far + rounding) / unit
        if not bool(good[own].all()):
            good[own] &= sure[own]
        elif far + rounding <= _MOVED * (float(errors[place]) + TINY) and bool(sure[own].all()):
            certain.add(end)
        else:
            # Neither the order of these values nor their sign is known to their residual.
            bounds[own] = bounds[own].clamp_min(far)
    asymmetry, dtype = krylov.asymmetry, basis.rows.dtype
    symmetric = symmetric_to_rounding(asymmetry, found.scale, dtype, tolerance)
    shows = not symmetric or symmetry_shows(asymmetry, found.scale, tolerance)
    return Extremes(
        found.values[places] / unit,
        basis.combine(found.vectors[:, places]).T,
        (bounds[places] + rounding) / unit,
        good[places],
        certain,
        resolution,
        chance,
        proof,
        basis.capacity,
        lacks_symmetry(asymmetry / unit, found.scale / unit) if shows else "",
        symmetric,
    )
