"""The generalised Gauss-Newton matrix."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from liftscape.curvature._output_forms import LossAtOutputs, OutputForm, OutputOperator
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["gauss_newton"]


def gauss_newton(
    risk: EmpiricalRisk,
    *,
    params: Mapping[str, Tensor] | None = None,
    at: str | Sequence[str] | None = None,
    memory_budget: int | None = None,
) -> OutputOperator:
    """Return the generalised Gauss-Newton matrix G = Σ_b (n_b / n) J_bᵀ (∇²_z ℓ_b) J_b as an operator.

    J_b is the Jacobian of the outputs z on batch b with respect to the parameters. H = G + Σ_i ∂_i ℓ ∇²z_i, so G is the
    Hessian where the outputs are affine in θ or the loss has no slope. G is positive semi-definite if ℓ is convex in z.

    Source: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent", section 3.

    Args:
        risk: the empirical risk, with any loss of the outputs.
        params: θ by name; the model's own when None.
        at: the name of a module or parameter, or several; all parameters when None.
        memory_budget: as for :meth:`liftscape.EmpiricalRisk.hessian`.

    Returns:
        The operator, (M, M).

    Raises:
        ModelError: if a name is unknown, or the budget cannot hold the product for one sample.

    Example:
        >>> linear = torch.nn.Linear(2, 1, dtype=torch.float64)
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> risk = EmpiricalRisk(linear, "mse", (x, torch.ones(2, 1, dtype=torch.float64)))
        >>> gauss_newton(risk).to_dense().tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 2.0]]
    """
    require_risk(risk, "gauss_newton")
    point = risk.point(params, at=at)
    return OutputOperator(point, lambda: _loss_hessian, risk.plan(point, memory_budget))


def _loss_hessian(at: LossAtOutputs) -> OutputForm:
    """Return C = ∇²_z ℓ of the mean loss."""
    slope, leaves = at.gradient(create_graph=True)
    used = [index for index, part in enumerate(slope) if part.requires_grad]

    def form(rows: Sequence[Tensor]) -> Sequence[Tensor]:
        if not used:
            return [torch.zeros_like(row) for row in rows]
        return torch.autograd.grad(
            [slope[index] for index in used],
            leaves,
            [rows[index] for index in used],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    return form
