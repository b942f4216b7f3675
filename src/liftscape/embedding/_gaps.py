"""How far an embedding is from keeping outputs, gradient and Hessian, measured on the data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.embedding._embedding import Embedding
from liftscape.functional import trainable_parameters
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["EmbeddingGaps", "largest_output_gap", "measure_gaps"]

_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class EmbeddingGaps(Outcome):
    """The gaps of the three laws of an embedding; rounding for an exact lift.

    Attributes:
        output: largest |f_θ′ − f_θ| on the data over the largest |f_θ|.
        gradient: ‖g′ − Jᵀg‖ over ‖J‖‖g‖ + ‖H′‖, the scale of rounding in g′.
        hessian: ‖H′ − JᵀHJ‖ / ‖H′‖ (Frobenius), a law at critical points only.
        gradient_norm: ‖g′‖.
        base_gradient_norm: ‖g‖.
    """

    output: float
    gradient: float
    hessian: float
    gradient_norm: float
    base_gradient_norm: float


def measure_gaps(embedding: Embedding, risk: EmpiricalRisk) -> EmbeddingGaps:
    """Measure f_θ′ = f_θ, g′ = Jᵀg and H′ = JᵀHJ with dense Hessians of both networks.

    Source: Bai et al. 2022 (arXiv 2205.13283), output and criticality preserving; H′ = JᵀHJ is derived (theory T4).

    Args:
        embedding: of the risk's network.
        risk: of the smaller network, float64.

    Returns:
        The gaps; O(M′²) memory.

    Example:
        >>> from liftscape import nets
        >>> from liftscape.embedding import lift
        >>> net, x = nets.mlp((2, 3, 1)), torch.randn(20, 2, dtype=torch.float64)
        >>> risk = EmpiricalRisk(net, "mse", (x, net(x).detach()))
        >>> gaps = measure_gaps(lift(net, x, "2"), risk)
        >>> gaps.output < 1e-12, gaps.hessian < 1e-10
        (True, True)
    """
    lifted = risk.with_model(embedding.model)
    J = embedding.chart.jacobian(trainable_parameters(embedding.model))
    g, g_lifted = risk.gradient(), lifted.gradient()
    H, H_lifted = risk.hessian().to_dense(), lifted.hessian().to_dense()
    norm = float(torch.linalg.matrix_norm(H_lifted))
    scale = float(torch.linalg.matrix_norm(J) * g.norm()) + norm
    return EmbeddingGaps(
        output=largest_output_gap(risk, lifted),
        gradient=float((g_lifted - J.T @ g).norm()) / max(scale, _TINY),
        hessian=float(torch.linalg.matrix_norm(H_lifted - J.T @ H @ J)) / max(norm, _TINY),
        gradient_norm=float(g_lifted.norm()),
        base_gradient_norm=float(g.norm()),
    )


def largest_output_gap(risk: EmpiricalRisk, other: EmpiricalRisk) -> float:
    """Return the largest difference of outputs on the data, over the largest output, batch by batch.

    Args:
        risk: the network that gives the scale.
        other: a risk on the same data.

    Returns:
        The relative gap.
    """
    largest = scale = 0.0
    with torch.no_grad():
        for mine, theirs in zip(risk.outputs(), other.outputs(), strict=True):
            largest = max(largest, _largest(theirs - mine))
            scale = max(scale, _largest(mine))
    return largest / max(scale, _TINY)


def _largest(values: Float[Tensor, "*shape"]) -> float:
    """Return the largest modulus."""
    return float(values.abs().max()) if values.numel() else 0.0
