"""Extreme eigenpairs with bounds: a restarted Lanczos that looks again until it finds no more."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._asymmetry import lacks_symmetry, symmetric_to_rounding, symmetry_shows
from liftscape.curvature._extremes import find_extremes
from liftscape.curvature._found import End
from liftscape.curvature._pairs import ROUNDED, UNRESOLVED, Eigenpairs, pairs_of, within_bounds, without_symmetry
from liftscape.curvature._resolution import certain_errors
from liftscape.curvature._work import Progress, Work
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import LiftscapeError

__all__ = ["Eigenpairs", "Which", "eigenpairs", "most_negative_eigenpair"]

Which = Literal["smallest", "largest", "both"]
# Up to this many rows the matrix itself costs less than a search.
_DENSE = 50
_DEFAULT_MEMORY = 2 << 30
_SMALL_MEMORY = 64 << 20


def eigenpairs(
    H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray",
    k: int,
    *,
    which: Which = "both",
    tolerance: float = 1e-6,
    chance: float = 1e-3,
    max_products: int | None = None,
    memory_budget: int | None = None,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Eigenpairs:
    """Return the k smallest or largest eigenpairs of H, or k at both ends, each with a bound, clusters included.

    Lanczos with full reorthogonalisation gives Ritz pairs with ‖Hv − λv‖ = ‖Cs‖. Once those asked for have converged,
    ‖Cs‖ ≤ tolerance · max|λ|, a sweep from a random block orthogonal to all vectors so far looks for an eigenvalue that
    belongs among them, such as a further copy of a multiple one: if it finds one, the search goes on with twice the
    block, and an end has converged when a sweep finds none. A single value needs no sweep, since a further copy changes
    nothing and any other has a part in the random start: the first sequence goes on until that would have shown. The
    error of a value is of the order of residual²/gap, so values are often right to tolerance² where the spectrum is not
    clustered. Of a risk's Hessian the derivatives are compared with differences once for each θ, at the cost of a few
    products that are not counted; see :meth:`liftscape.EmpiricalRisk.check_derivatives`.

    Source: Wu and Simon 2000, thick-restart Lanczos; the sweep is derived, see the module ``_sweep``.

    Args:
        H: (M, M), any symmetric operator: ours, a SciPy LinearOperator or a matrix.
        k: how many, at each end for "both".
        which: "smallest", "largest" or "both".
        tolerance: largest ‖Cs‖ relative to the largest |Ritz value|; not below 10 eps of the operator's dtype.
        chance: an end is verified once the sweep would have missed a value that belongs there with at most this
            probability.
        max_products: how many products may be taken; by default 1,000 and 100 for each value.
        memory_budget: bytes for the stored vectors; by default 64 MiB, or what ten vectors for each value and 40 more
            take, up to 2 GiB, or what twice the values and 10 more take.
        generator: draws the start and the sweeps; seed 0 when None.
        progress: called with (products done, products estimated).
        checkpoint: a folder in which products are recorded, so that the work resumes there after a kill; each run
            with it takes one product more, or two where the first differs, which tell whether H is the same.

    Returns:
        The pairs, their bounds, and a status for each end.

    Raises:
        LiftscapeError: if there are not so many eigenvalues, or the budget cannot hold the vectors.
        NotFiniteError: if a product is not finite.
        ModelError: if the products are not those of the risk's second derivative.

    Example:
        >>> found = eigenpairs(torch.diag(torch.tensor([-2.0, 1.0, 1.0, 5.0], dtype=torch.float64)), 1)
        >>> found.values.round(decimals=6).tolist(), found.status["smallest"]
        ([-2.0, 5.0], 'converged')
    """
    operator = as_operator(H)
    ends: tuple[End, ...] = ("smallest", "largest") if which == "both" else (which,)
    total = k * len(ends)
    if which not in {"smallest", "largest", "both"}:
        raise LiftscapeError(f"which must be 'smallest', 'largest' or 'both', but {which!r} was given.")
    if k < 1 or total > operator.size:
        raise LiftscapeError(
            f"{k} eigenpairs at {len(ends)} end(s) were asked for, but an operator of shape {operator.shape} has "
            f"{operator.size} in all; {_fitting(operator.size, len(ends))}."
        )
    capacity = rows_within(operator, total, memory_budget, len(ends))
    operator.verify()
    settings = {
        "work": "eigenpairs",
        "k": k,
        "which": which,
        "tolerance": tolerance,
        "chance": chance,
        "rows": capacity,
    }
    limit = max_products if max_products is not None else 1000 + 100 * total
    expected = 2 * total + 40
    work = Work(operator, settings, limit, min(expected, operator.size), progress, checkpoint)
    if operator.size <= max(_DENSE, 3 * total) and operator.size <= min(capacity, work.left):
        return _dense(work, ends, k, tolerance)
    generator = as_generator(generator)
    return pairs_of(find_extremes(work, ends, k, tolerance, chance, generator, capacity), ends, k, work.done)


def most_negative_eigenpair(
    H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray",
    *,
    tolerance: float = 1e-6,
    chance: float = 1e-3,
    max_products: int | None = None,
    memory_budget: int | None = None,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Eigenpairs:
    """Return the smallest eigenvalue of H with its vector and bound: eigenpairs with k = 1 at the lower end.

    The value + its residual is above an eigenvalue of H, so value + residual < 0 proves negative curvature.

    Source: as :func:`eigenpairs`.

    Args:
        H: (M, M), any symmetric operator.
        tolerance: as for :func:`eigenpairs`.
        chance: as for :func:`eigenpairs`.
        max_products: as for :func:`eigenpairs`.
        memory_budget: as for :func:`eigenpairs`.
        generator: as for :func:`eigenpairs`.
        progress: as for :func:`eigenpairs`.
        checkpoint: as for :func:`eigenpairs`.

    Returns:
        One pair, positive where H has no negative eigenvalue.

    Example:
        >>> found = most_negative_eigenpair(torch.diag(torch.tensor([-2.0, 1.0, 5.0], dtype=torch.float64)))
        >>> round(float(found.values[0]), 6)
        -2.0
    """
    return eigenpairs(
        H,
        1,
        which="smallest",
        tolerance=tolerance,
        chance=chance,
        max_products=max_products,
        memory_budget=memory_budget,
        generator=generator,
        progress=progress,
        checkpoint=checkpoint,
    )


def _fitting(size: int, ends: int) -> str:
    """Say which k an operator has at so many ends."""
    if size >= ends:
        return f"choose k between 1 and {size // ends}"
    return "ask for one end, with k = 1" if size else "give one with parameters"


def rows_within(operator: SymmetricOperator, total: int, memory_budget: int | None, ends: int = 1) -> int:
    """Return how many vectors a search for so many values stores within the budget, or raise."""
    row = operator.size * operator.dtype.itemsize
    least, most = min(operator.size, 2 * total) + 10, 2 * operator.size
    if memory_budget is None:
        return max(least, min(most, _DEFAULT_MEMORY // row, max(10 * total + 40, _SMALL_MEMORY // row)))
    if memory_budget // row < least:
        fits = max(0, (memory_budget // row - 10) // 2) // ends
        where = " at each end" if ends > 1 else ""
        advice = f"{fits}{where} would fit" if fits else f"not even one{where} would fit"
        raise LiftscapeError(
            f"{total} eigenpairs need {least} stored vectors of {row:,} bytes, {least * row:,} bytes in all, but "
            f"memory_budget is {memory_budget:,}: {advice}."
        )
    return min(most, memory_budget // row)


def _dense(work: Work, ends: tuple[End, ...], k: int, tolerance: float) -> Eigenpairs:
    """Return the pairs of a matrix so small that it is made and diagonalised."""
    operator = work.operator
    dense = work.multiply(torch.eye(operator.size, dtype=operator.dtype, device=operator.device)).to(torch.float64)
    values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
    norm = float(values.abs().max())
    rounding = 10 * len(dense) * torch.finfo(operator.dtype).eps * norm
    asymmetry = float(torch.linalg.matrix_norm(dense - dense.T))
    bound = rounding + asymmetry
    places = sorted({*(range(k) if "smallest" in ends else ()), *(range(-k, 0) if "largest" in ends else ())})
    places = [place for place in places if place >= 0] + [place for place in places if place < 0]
    lack = lacks_symmetry(asymmetry / work.scale, norm / work.scale)
    noted = within_bounds(lack) if symmetry_shows(asymmetry, norm, tolerance) else ""
    certain = (bound <= certain_errors(values, bound, norm).cpu())[places]
    status = {
        end: "converged" if bool(certain[index * k : (index + 1) * k].all()) else "unresolved"
        for index, end in enumerate(ends)
    }
    hidden = "unresolved" in status.values()
    pairs = Eigenpairs(
        values[places].cpu() / work.scale,
        vectors[:, places].to(operator.dtype),
        torch.full((len(places),), bound / work.scale, dtype=torch.float64),
        torch.tensor([status[end] == "converged" for end in ends for _ in range(k)]),
        status,
        dict.fromkeys(ends, 0.0),
        dict.fromkeys(ends, bound / work.scale),
        f"The whole matrix of shape {operator.shape} was diagonalised.{noted}",
        UNRESOLVED if hidden else ROUNDED if noted else "",
        work.done,
        "dense eigendecomposition",
    )
    return pairs if symmetric_to_rounding(asymmetry, norm, operator.dtype, tolerance) else without_symmetry(pairs, lack)
