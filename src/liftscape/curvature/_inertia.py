"""The inertia (n₋, n₀, n₊) with a threshold that knows how far the point is from being critical."""

from dataclasses import dataclass, replace
from math import isnan

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.operators import SymmetricOperator, all_finite, as_operator, require_finite_product
from liftscape.outcomes import NotFiniteError, Outcome

__all__ = ["Inertia", "inertia", "inertia_of_spectrum"]

# Eigenvalues that vanish at the critical point move by the gradient norm times the parametrisation's curvature.
PARAMETRISATION_CURVATURE = 10.0
_DECIDED_MARGIN = 10.0


@dataclass(frozen=True)
class Inertia(Outcome):
    """Numbers of negative, zero and positive eigenvalues, with the evidence for them.

    Attributes:
        negative: n₋, eigenvalues below −tolerance.
        zero: n₀, eigenvalues within ±tolerance.
        positive: n₊, eigenvalues above tolerance.
        tolerance: the threshold between zero and not.
        margin: smallest counted |λ| over the tolerance, inf when none is counted.
        method: how the eigenvalues were found.
    """

    negative: int
    zero: int
    positive: int
    tolerance: float
    margin: float
    method: str

    @property
    def decided(self) -> bool:
        """Whether every counted eigenvalue stands off the threshold by a factor of ten."""
        return self.margin >= _DECIDED_MARGIN

    @property
    def triple(self) -> tuple[int, int, int]:
        """(n₋, n₀, n₊)."""
        return self.negative, self.zero, self.positive


def inertia_of_spectrum(
    eigenvalues: Float[Tensor, " M"], tolerance: float, *, method: str = "given eigenvalues"
) -> Inertia:
    """Count eigenvalues below, within and above ±tolerance.

    Args:
        eigenvalues: (M,), real.
        tolerance: the threshold.
        method: how the eigenvalues were found.

    Returns:
        The counts with their margin.

    Raises:
        NotFiniteError: if an eigenvalue is not finite, or the tolerance is not a number.

    Example:
        >>> inertia_of_spectrum(torch.tensor([-1.0, 0.0, 2.0]), 1e-9).triple
        (1, 1, 1)
    """
    if not all_finite(eigenvalues) or isnan(tolerance):
        bad = int((~torch.isfinite(eigenvalues)).sum())
        raise NotFiniteError(
            f"an inertia counts real numbers, but {bad} of {len(eigenvalues)} eigenvalues are not finite and the "
            f"tolerance is {tolerance}; look for parameters at which the loss and its derivatives are finite."
        )
    negative = int((eigenvalues < -tolerance).sum())
    positive = int((eigenvalues > tolerance).sum())
    counted = eigenvalues.abs()[eigenvalues.abs() > tolerance]
    margin = float(counted.min()) / tolerance if counted.numel() and tolerance > 0 else float("inf")
    return Inertia(negative, len(eigenvalues) - negative - positive, positive, tolerance, margin, method)


def inertia(H: "SymmetricOperator | Tensor", *, gradient_norm: float = 0.0) -> Inertia:
    """Return (n₋, n₀, n₊) of H by a dense symmetric eigendecomposition.

    The threshold is 10·M·eps·‖H‖ + 2·‖H − Hᵀ‖ + 10·‖∇R‖: rounding, asymmetry, and the distance from criticality, since
    the zeros of a lifted point move to ±O(‖∇R‖) as soon as the point is only approximately critical.

    Source: theory T4, derived; no statement of the paper.

    Args:
        H: (M, M), any symmetric operator: ours, a SciPy LinearOperator or a matrix.
        gradient_norm: ‖∇R‖ at the point; 0 says that the point is critical to rounding.

    Returns:
        The counts, the threshold and the margin; a margin below 10 means undecided, and is 1 where a counted zero is
        none to rounding.

    Raises:
        NotFiniteError: if an entry of H is not finite.

    Example:
        >>> inertia(torch.diag(torch.tensor([-1.0, 0.0, 3.0], dtype=torch.float64))).triple
        (1, 1, 1)
        >>> inertia(torch.diag(torch.tensor([-1e-6, 3.0], dtype=torch.float64)), gradient_norm=1e-7).triple
        (0, 1, 1)
    """
    dense = as_operator(H).to_dense()
    require_finite_product(dense)
    asymmetry = float(torch.linalg.matrix_norm(dense - dense.T)) if dense.numel() else 0.0
    eigenvalues = torch.linalg.eigvalsh((dense + dense.T) / 2)
    norm = float(eigenvalues.abs().max()) if len(eigenvalues) else 0.0
    rounding = 10 * len(eigenvalues) * torch.finfo(dense.dtype).eps * norm
    tolerance = rounding + 2 * asymmetry + PARAMETRISATION_CURVATURE * gradient_norm
    counted = inertia_of_spectrum(eigenvalues, tolerance, method=f"dense eigendecomposition, {dense.dtype}")
    moved = bool(((eigenvalues.abs() > rounding + 2 * asymmetry) & (eigenvalues.abs() <= tolerance)).any())
    # A zero that is not one to rounding may be a small eigenvalue that the gradient's term of the threshold hides.
    return replace(counted, margin=1.0) if moved else counted
