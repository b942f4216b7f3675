"""Eigenvalues of either sign that are proved to exist, for operators too large for a dense decomposition."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._asymmetry import lacks_symmetry, symmetric_to_rounding
from liftscape.curvature._basis import Basis
from liftscape.curvature._inertia import PARAMETRISATION_CURVATURE
from liftscape.curvature._lanczos import Krylov, extend, restart, ritz, start, thin
from liftscape.curvature._resolution import TINY, certain_errors
from liftscape.curvature._sweep import sweep
from liftscape.curvature._work import Progress, Work, standard_normal
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import LiftscapeError, Outcome

__all__ = ["PartialInertia", "partial_inertia"]

_MEMORY = 2 << 30
_SMALL_MEMORY = 64 << 20
_FEWEST_ROWS = 24
_ROUNDING = 10.0
# Products without a change of the count after which a sweep looks.
_PATIENCE = 10
# Rows that a sweep should find free.
_SWEEP = 20


@final
@dataclass(frozen=True)
class PartialInertia(Outcome):
    """Numbers of eigenvalues that are proved to lie beyond ±tolerance.

    Attributes:
        negative_at_least: eigenvalues below −tolerance, proved.
        positive_at_least: eigenvalues above tolerance, proved.
        tolerance: rounding, measured asymmetry and ten times the gradient norm.
        smallest: the smallest Ritz value; the smallest eigenvalue is not above it by more than rounding.
        largest: the largest Ritz value; the largest eigenvalue is not below it by more than rounding.
        chance: a bound of the probability that there are more negative ones than said, over the random block of the
            last sweep; 1 where no sweep was finished.
        complete: whether that chance is as small as asked for, or the whole space was taken, and no sign is hidden: by
            products that lack more symmetry than rounding explains, by rounding above 1e-10 of the largest |value| and
            above a tenth of the smallest not counted as negative, or by a tolerance above a negative value that
            rounding leaves negative.
        products: how many products were taken.
        method: how the eigenvalues were found and proved.
    """

    negative_at_least: int
    positive_at_least: int
    tolerance: float
    smallest: float
    largest: float
    chance: float
    complete: bool
    products: int
    method: str


def partial_inertia(
    H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray",
    *,
    gradient_norm: float = 0.0,
    at_least: int | None = None,
    chance: float = 1e-3,
    max_products: int = 1000,
    memory_budget: int | None = None,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> PartialInertia:
    """Return how many eigenvalues of H are proved negative and positive, from the compression to a Krylov space.

    Courant-Fischer: if sᵀ(QHQᵀ)s < −t‖s‖² on a space of p vectors s, H has p eigenvalues below −t/(1 + ‖QQᵀ − I‖).
    t = rounding (10·eps·√n·‖T‖ + the measured asymmetry of the products) + 10·‖∇R‖, as for the inertia; no
    eigenvalue needs to have converged. The search is for negative ones and stops at `at_least` of them, or when a sweep
    at −t from a fresh random block finds no more; the positive ones are those that the same space proves.

    Source: Courant-Fischer; Cauchy's interlacing; theory T4 for the threshold.

    Args:
        H: (M, M), any symmetric operator: ours, a SciPy LinearOperator or a matrix.
        gradient_norm: ‖∇R‖ at the point; 0 says that the point is critical to rounding.
        at_least: how many negative ones are enough; None looks for all.
        chance: the search ends when more exist with at most this probability.
        max_products: how many products may be taken.
        memory_budget: bytes for the stored vectors; 64 MiB by default, or 24 vectors where those take more, at most
            as many as products.
        generator: draws the start and the sweeps; seed 0 when None.
        progress: called with (products done, products at most).
        checkpoint: a folder in which products are recorded, so that the work resumes there after a kill; each run
            with it takes one product more, or two where the first differs, which tell whether H is the same.

    Returns:
        Proved counts with the threshold.

    Raises:
        LiftscapeError: if the budget cannot hold the vectors.
        NotFiniteError: if a product is not finite.

    Example:
        >>> found = partial_inertia(torch.diag(torch.tensor([-1.0, -1.0, 0.0, 3.0], dtype=torch.float64)))
        >>> found.negative_at_least, found.positive_at_least, found.complete
        (2, 1, True)
    """
    operator = as_operator(H)
    row = operator.size * operator.dtype.itemsize
    most = 2 * operator.size + 10
    least = min(_FEWEST_ROWS, most)
    budget = max(_SMALL_MEMORY, min(_MEMORY, 100 * row), least * row) if memory_budget is None else memory_budget
    if budget // row < least:
        raise LiftscapeError(
            f"a partial inertia needs {least} stored vectors of {row:,} bytes, {least * row:,} bytes in all, but "
            f"memory_budget is {budget:,}; give that much."
        )
    capacity = min(most, budget // row)
    generator = as_generator(generator)
    settings = {"work": "partial inertia", "gradient norm": gradient_norm, "chance": chance, "rows": capacity}
    work = Work(operator, settings, max_products, min(max_products, operator.size), progress, checkpoint)
    basis = Basis(capacity, operator.size, operator.dtype, operator.device)
    krylov = start(basis, standard_normal(1, operator, generator))
    missed = _search(krylov, work, generator, gradient_norm, at_least, chance)
    stretch = 1 + basis.departure()
    threshold = _threshold(krylov, work, gradient_norm) * stretch
    values = torch.linalg.eigvalsh(krylov.T)
    norm, fault = float(values.abs().max()) if len(values) else 0.0, ""
    resolved = _resolved(values, _threshold(krylov, work, 0.0) * stretch, threshold, operator.size)
    if not symmetric_to_rounding(krylov.asymmetry, norm, operator.dtype):
        fault = f"; {lacks_symmetry(krylov.asymmetry / work.scale, norm / work.scale)}"
    return PartialInertia(
        int((values < -threshold).sum()),
        int((values > threshold).sum()),
        threshold / work.scale,
        float(values[0]) / work.scale if len(values) else float("nan"),
        float(values[-1]) / work.scale if len(values) else float("nan"),
        missed,
        missed <= chance and resolved and not fault,
        work.done,
        f"compression to {krylov.processed} Lanczos vectors, {operator.dtype}{fault}",
    )


def _search(
    krylov: Krylov,
    work: Work,
    generator: torch.Generator,
    gradient_norm: float,
    at_least: int | None,
    chance: float,
) -> float:
    """Extend and sweep until enough negative eigenvalues are proved or no more are likely; return what was missed."""
    width, missed, settled, next_look, before = 1, 1.0, 0, 0, 0
    while True:
        n = krylov.processed
        if n >= next_look or not krylov.pending:
            threshold = _threshold(krylov, work, gradient_norm)
            count = int((torch.linalg.eigvalsh(krylov.T) < -threshold).sum()) if n else 0
            if at_least is not None and count >= at_least:
                return 1.0
            if n == work.operator.size:
                return 0.0
            settled, before = (settled + n - next_look + 1 if count == before else 0), count
            next_look = n + max(1, n // 32)
            if settled >= _PATIENCE or not krylov.pending:
                _make_room(krylov, width, count)
                seen = sweep(krylov, work, generator, -threshold, -1, width, chance / missed)
                if seen.outcome == "found":
                    width, missed, settled = min(2 * width, max(1, krylov.basis.capacity // 8)), 1.0, 0
                else:
                    # Blocks are drawn independently, so the chances that each missed the same value multiply.
                    missed *= seen.chance
                    if missed <= chance:
                        return missed
                if seen.outcome == "stopped":
                    return missed
                next_look = 0
                continue
        chosen = list(range(min(krylov.pending, width)))
        if work.left < len(chosen):
            return missed
        if krylov.basis.count + len(chosen) > krylov.basis.capacity:
            _cut(krylov, width, before)
            next_look = 0
        else:
            extend(krylov, work, chosen)


def _make_room(krylov: Krylov, width: int, negative: int) -> None:
    """Cut the decomposition where a sweep would find too few rows free."""
    basis = krylov.basis
    if basis.capacity - basis.count < min(_SWEEP * width, basis.capacity // 2):
        _cut(krylov, width, negative)


def _cut(krylov: Krylov, width: int, negative: int) -> None:
    """Keep the negative Ritz pairs, and of the others the lowest, in half of the rows."""
    capacity = krylov.basis.capacity
    keep = max(1, min(krylov.processed, max(negative, capacity // 4), (capacity - krylov.pending) // 2))
    if keep < krylov.processed:
        restart(krylov, ritz(krylov), list(range(keep)))
    room = max(1, (capacity - krylov.processed) // 2 - width)
    if krylov.pending > room:
        thin(krylov, room)


def _resolved(values: Tensor, rounding: float, threshold: float, size: int) -> bool:
    """Tell whether the threshold hides no negative eigenvalue: of values that are within it no sign is known."""
    left = values[values >= -threshold][:1]
    if not len(left):
        if len(values) == size:
            return True
        left = torch.zeros(1, dtype=values.dtype)
    scale = float(values.abs().max()) if len(values) else 0.0
    return not float(left) < -rounding and rounding <= max(float(certain_errors(left, rounding, scale)), 2 * TINY)


def _threshold(krylov: Krylov, work: Work, gradient_norm: float) -> float:
    """Return rounding, the products' measured asymmetry and ten times the gradient norm."""
    n = krylov.processed
    scale = float(torch.linalg.matrix_norm(krylov.T, 2)) if n else 0.0
    rounding = _ROUNDING * torch.finfo(krylov.basis.rows.dtype).eps * n**0.5 * scale + krylov.rounding
    # A zero operator needs a threshold beside its eigenvalues, too.
    return max(rounding + PARAMETRISATION_CURVATURE * gradient_norm * work.scale, TINY)
