"""Trace and extreme eigenvalues of one operator, such as the Hessian's block of one layer."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import final

import torch

from liftscape._random import as_generator
from liftscape.curvature._asymmetry import symmetric_to_rounding
from liftscape.curvature._eigenpairs import eigenpairs
from liftscape.curvature._estimate import Estimate
from liftscape.curvature._recorded import resumed
from liftscape.curvature._trace_estimate import trace
from liftscape.curvature._work import Progress
from liftscape.operators import SymmetricOperator, require_finite_product
from liftscape.outcomes import NotFiniteError, Outcome

__all__ = ["LayerCurvature", "block_curvature", "layer_curvature_products"]

# Up to this many parameters the block itself costs less than estimates of it.
_DENSE = 128
_TYPICAL_PRODUCTS = 60


@final
@dataclass(frozen=True)
class LayerCurvature(Outcome):
    """The Hessian's diagonal block H_BB of one layer.

    Attributes:
        layer: the module that owns the parameters, or the parameter's name where that is the root.
        parameters: how many.
        trace: tr H_BB with its interval.
        lowest: smallest eigenvalue of H_BB; it bounds that of H from above.
        lowest_bound: an eigenvalue of H_BB lies within this of it.
        highest: largest eigenvalue of H_BB; it bounds that of H from below.
        highest_bound: an eigenvalue of H_BB lies within this of it.
        status: "converged", or which ends are not.
        products: how many products with H_BB were taken.
    """

    layer: str
    parameters: int
    trace: Estimate
    lowest: float
    lowest_bound: float
    highest: float
    highest_bound: float
    status: str
    products: int


def block_curvature(
    H: SymmetricOperator,
    *,
    name: str,
    probes: int = 30,
    tolerance: float = 1e-3,
    confidence: float = 0.99,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> LayerCurvature:
    """Return trace and extreme eigenvalues of one operator under a name, such as the Hessian of all parameters.

    Source: Hutchinson 1990; Wu and Simon 2000.

    Args:
        H: (M, M).
        name: what it is the curvature of.
        probes: as for :func:`liftscape.curvature.layer_curvature`.
        tolerance: as for :func:`liftscape.curvature.layer_curvature`.
        confidence: as for :func:`liftscape.curvature.layer_curvature`.
        generator: as for :func:`liftscape.curvature.layer_curvature`.
        progress: called with (products done, products expected).
        checkpoint: a folder in which products are recorded, and then the entry, so that the work resumes there.

    Returns:
        The entry.

    Example:
        >>> from liftscape.operators import as_operator
        >>> row = block_curvature(as_operator(torch.diag(torch.tensor([-1.0, 3.0], dtype=torch.float64))), name="all")
        >>> row.lowest, row.trace.value, row.highest
        (-1.0, 2.0, 3.0)
    """
    advance = progress or _silent
    draws = as_generator(generator)
    settings = {
        "work": f"curvature of {name}",
        "probes": probes,
        "tolerance": tolerance,
        "confidence": confidence,
    }

    def row(operator: SymmetricOperator) -> LayerCurvature:
        try:
            if operator.size <= _DENSE:
                return _dense_row(name, operator, confidence, advance)
            return _estimated_row(name, operator, probes, tolerance, confidence, draws, advance)
        except NotFiniteError:
            return _unknown(name, operator.size)

    return resumed(H, checkpoint, settings, LayerCurvature, row, draws)


def _silent(done: int, total: int) -> None:
    """Show no progress."""
    del done, total


def layer_curvature_products(size: int, *, probes: int = 30) -> int:
    """Return how many products a layer of so many parameters is expected to take.

    Source: measured.

    Args:
        size: the number of its parameters.
        probes: of its trace.

    Returns:
        The number.

    Example:
        >>> layer_curvature_products(10), layer_curvature_products(10_000)
        (10, 90)
    """
    return size if size <= _DENSE else probes + _TYPICAL_PRODUCTS


def _dense_row(name: str, block: SymmetricOperator, confidence: float, advance: Progress) -> LayerCurvature:
    """Diagonalise a small block."""
    dense = block.to_dense().double()
    advance(block.size, block.size)
    require_finite_product(dense)
    values = torch.linalg.eigvalsh((dense + dense.T) / 2)
    norm = float(values.abs().max())
    asymmetry = float(torch.linalg.matrix_norm(dense - dense.T))
    bound = 10 * len(dense) * torch.finfo(block.dtype).eps * norm + asymmetry
    status = "converged" if symmetric_to_rounding(asymmetry, norm, block.dtype) else "asymmetric"
    total, slack = float(dense.trace()), 10 * torch.finfo(block.dtype).eps * float(dense.diag().abs().sum())
    exact = Estimate(total, 0.0, (total - slack, total + slack), confidence, block.size, block.size, "dense diagonal")
    return LayerCurvature(
        name, block.size, exact, float(values[0]), bound, float(values[-1]), bound, status, block.size
    )


def _estimated_row(
    name: str,
    block: SymmetricOperator,
    probes: int,
    tolerance: float,
    confidence: float,
    generator: torch.Generator,
    advance: Progress,
) -> LayerCurvature:
    """Estimate a large block's trace and ends."""
    estimate = trace(block, probes=probes, confidence=confidence, generator=generator, progress=advance)
    if not isfinite(estimate.value):
        return _unknown(name, block.size)
    found = eigenpairs(
        block,
        1,
        which="both",
        tolerance=tolerance,
        generator=generator,
        progress=lambda done, total: advance(probes + done, probes + total),
    )
    late = [end for end, status in found.status.items() if status != "converged"]
    (lowest, highest), (below, above) = found.values.tolist(), found.residuals.tolist()
    return LayerCurvature(
        name,
        block.size,
        estimate,
        lowest,
        below,
        highest,
        above,
        "converged" if not late else " and ".join(f"{end} {found.status[end]}" for end in late),
        probes + found.products,
    )


def _unknown(name: str, size: int) -> LayerCurvature:
    """Return the row of a layer in which the Hessian is not finite."""
    nan = float("nan")
    nothing = Estimate(nan, nan, (nan, nan), nan, 0, 0, "not finite")
    return LayerCurvature(name, size, nothing, nan, float("inf"), nan, float("inf"), "not finite", 0)
