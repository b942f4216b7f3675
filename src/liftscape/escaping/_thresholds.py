"""The best threshold of a half-space along given directions, exactly: sorted, by running sums, in closed form."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Thresholds", "best_thresholds"]

# Directions are taken in blocks, so that sorted copies of the gradients stay within so many numbers.
_BLOCK = 1_000_000


@final
@dataclass(frozen=True)
class Thresholds:
    """The best half-space of each direction.

    Attributes:
        threshold: τ, (T,).
        gain: ‖Σ_i g_i φ_i‖² / (Σ_i φ_i² + ridge) at τ, (T,).
    """

    threshold: Float[Tensor, " T"]
    gain: Float[Tensor, " T"]


def best_thresholds(
    projections: Float[Tensor, "T n"], gradients: Float[Tensor, "n D"], ridge: float = 0.0
) -> Thresholds:
    """Maximise ‖Σ_i g_i φ_i‖² / (Σ_i φ_i² + ridge), φ_i = max(p_i − τ, 0), over τ from the smallest p_i to the largest.

    Between two neighbours p_(k) ≤ τ ≤ p_(k+1) numerator and denominator are quadratic in u = p_(k+1) − τ, and the
    derivative of their quotient vanishes where (γM − βn)u² + (γQ − αn)u + βQ − αM = 0, with V = Σg_i(p_i − p_(k+1)),
    G = Σg_i over i > k, α = ‖V‖², β = V·G, γ = ‖G‖², and M, Q, n the sums of (p_i − p_(k+1)), of their squares (with
    the ridge) and of ones. All come from one pass over the sorted projections; of M, Q and n every term is positive.

    Source: derived (theory 7).

    Args:
        projections: p_i = a·h_i of each of T directions a, (T, n), float64.
        gradients: g_i = ∂R/∂z_i, (n, D).
        ridge: ≥ 0; more of it prefers half-spaces in which φ is large.

    Returns:
        The thresholds; gain 0 for a direction along which all projections agree.

    Example:
        >>> p = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
        >>> found = best_thresholds(p, torch.tensor([[1.0], [-2.0], [1.0]], dtype=torch.float64))
        >>> found.threshold.tolist(), found.gain.tolist()
        ([1.0], [1.0])
    """
    rows = max(1, _BLOCK // max(gradients.numel(), 1))
    blocks = [_best(block, gradients, ridge) for block in projections.split(rows)]
    return Thresholds(torch.cat([each.threshold for each in blocks]), torch.cat([each.gain for each in blocks]))


def _best(projections: Tensor, gradients: Tensor, ridge: float) -> Thresholds:
    """Search all intervals of a block of directions."""
    ordered, order = projections.sort(dim=1, descending=True)
    g = gradients[order]  # (T, n, D), from the largest projection down
    gaps = ordered[:, :-1] - ordered[:, 1:]
    n = torch.arange(1, ordered.shape[1], device=ordered.device, dtype=ordered.dtype).expand_as(gaps)
    G = g.cumsum(dim=1)[:, :-1]
    # The sums about the upper end of each interval: what was there one interval above, moved by its length.
    shift = torch.cat([torch.zeros_like(gaps[:, :1]), gaps[:, :-1]], dim=1)
    above = torch.cat([torch.zeros_like(n[:, :1]), n[:, :-1]], dim=1)
    M = (above * shift).cumsum(dim=1)
    M_above = torch.cat([torch.zeros_like(M[:, :1]), M[:, :-1]], dim=1)
    Q = (2 * shift * M_above + above * shift**2).cumsum(dim=1) + ridge
    G_above = torch.cat([torch.zeros_like(G[:, :1]), G[:, :-1]], dim=1)
    V = (shift[..., None] * G_above).cumsum(dim=1)
    alpha, beta, gamma = V.square().sum(-1), (V * G).sum(-1), G.square().sum(-1)

    places = torch.stack([gaps, *_stationary(gamma * M - beta * n, gamma * Q - alpha * n, beta * Q - alpha * M)])
    places = torch.minimum(places.nan_to_num(0.0, 0.0, 0.0).clamp_min(0.0), gaps)
    numerator = alpha + 2 * beta * places + gamma * places**2
    denominator = Q + 2 * M * places + n * places**2
    value = torch.where(denominator > 0, numerator / denominator.clamp_min(torch.finfo(Q.dtype).tiny), 0.0)
    value, choice = value.max(dim=0)
    gain, interval = value.max(dim=1, keepdim=True)
    place = places.gather(0, choice[None])[0]
    threshold = torch.maximum(ordered[:, :-1] - place, ordered[:, 1:])
    return Thresholds(threshold.gather(1, interval)[:, 0], gain[:, 0])


def _stationary(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the roots of a u² + b u + c without cancellation; not finite or not a number where there are none."""
    root = (b.square() - 4 * a * c).sqrt()
    far = -(b + torch.where(b >= 0, root, -root)) / 2
    return far / a, c / far
