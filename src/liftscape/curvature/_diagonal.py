"""The diagonal from products: estimated with a standard error for each entry, or exact by unit vectors."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._estimate import FEW, fewest_signs, student_quantile
from liftscape.curvature._probes import AnyOperator, block_columns, probe_products
from liftscape.curvature._recorded import generator_digest, recorded
from liftscape.curvature._work import Progress
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import LiftscapeError, Outcome

__all__ = ["Diagonal", "diagonal"]


@dataclass(frozen=True)
class Diagonal(Outcome):
    """The diagonal of a symmetric operator, with the evidence for it.

    Attributes:
        values: (M,), H_ii.
        standard_errors: (M,), one an entry; 0 where the diagonal is exact. From fewer than 30 probes, which may agree
            by chance, at least the root of mean (Hz)_i² / n, which bounds it.
        confidence: with which an entry's interval, taken alone, covers the true entry.
        probes: independent probes that the standard errors stand on; 0 where the diagonal is exact.
        products: products with the operator in all.
        method: ``"rademacher"`` or ``"exact"``.
    """

    values: Float[Tensor, " M"]
    standard_errors: Float[Tensor, " M"]
    confidence: float
    probes: int
    products: int
    method: str

    @property
    def interval(self) -> tuple[Tensor, Tensor]:
        """(low, high), each (M,): Student's interval of every entry; the entries themselves where they are exact.

        Infinite for fewer probes than log₂ 1/(1 − confidence), all of which may miss what two entries of a row add up.
        """
        if not self.probes:
            return self.values.clone(), self.values.clone()
        half = self.standard_errors * student_quantile(self.confidence, self.probes)
        if self.probes < fewest_signs(self.confidence):
            half = torch.full_like(half, math.inf)
        return self.values - half, self.values + half


def diagonal(
    H: AnyOperator,
    *,
    probes: int = 100,
    exact: bool = False,
    confidence: float = 0.99,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Diagonal:
    """Estimate diag H as the mean of z ⊙ Hz over random signs z, of variance Σ_{j≠i} H_ij² / n in entry i.

    Its entries sum to Hutchinson's estimate of the trace from the same generator.

    Source: Bekas, Kokiopoulou, Saad 2007, Appl. Numer. Math. 57, eq. 2; for signs the divisor Σ z ⊙ z is n.

    Args:
        H: (M, M), any symmetric operator.
        probes: products with H, at least 2; not used where the diagonal is exact.
        exact: take the M products with unit vectors, in blocks, instead.
        confidence: of an entry's interval.
        generator: on the CPU; seed 0 when None.
        progress: called with (products done, products in all).
        checkpoint: a folder in which products are recorded, so that the work resumes there after a kill; each run
            with it takes one product more, or two where the first differs, which tell whether H is the same.

    Returns:
        The diagonal on the operator's device, in its dtype.

    Raises:
        LiftscapeError: if there are fewer than two probes, or the confidence is not between 0 and 1.

    Example:
        >>> H = torch.tensor([[1.0, 5.0], [5.0, -2.0]])
        >>> diagonal(H, exact=True).values.tolist()
        [1.0, -2.0]
    """
    student_quantile(confidence, 2 if exact else probes)
    draws = as_generator(generator)
    settings = {"work": "diagonal", "probes": None if exact else probes, "seed": generator_digest(draws)}
    operator = recorded(as_operator(H), checkpoint, settings)
    if exact:
        values = _by_unit_vectors(operator, progress)
        return Diagonal(values, torch.zeros_like(values), confidence, 0, operator.size, "exact")
    mean = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    squares, lengths = torch.zeros_like(mean), torch.zeros_like(mean)
    count = 0
    for z, product in probe_products(operator, probes, draws, progress):
        terms = z * product
        new = terms.shape[1]
        centre = terms.mean(dim=1)
        shift = centre - mean
        # Squares about the running mean, which a difference of large sums would lose.
        squares += (terms - centre[:, None]).square().sum(dim=1) + shift.square() * (count * new / (count + new))
        mean += shift * (new / (count + new))
        count += new
        if probes < FEW:
            lengths += product.square().sum(dim=1)
    variances = torch.maximum(squares / (count - 1), lengths / count)
    return Diagonal(mean, variances.sqrt() / math.sqrt(count), confidence, count, count, "rademacher")


def _by_unit_vectors(H: SymmetricOperator, progress: Progress | None) -> Float[Tensor, " M"]:
    """Return the diagonal from M products."""
    if not H.size:
        raise LiftscapeError("an operator of shape (0, 0) has no diagonal; give one with at least one row.")
    values = torch.empty(H.size, dtype=H.dtype, device=H.device)
    columns = block_columns(H.size)
    for start in range(0, H.size, columns):
        end = min(start + columns, H.size)
        unit = torch.zeros(H.size, end - start, dtype=H.dtype, device=H.device)
        unit[start:end].fill_diagonal_(1)
        values[start:end] = (H @ unit)[start:end].diagonal()
        if progress is not None:
            progress(end, H.size)
    return values
