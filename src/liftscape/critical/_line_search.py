"""Backtracking for many points at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._batched import Landscape
from liftscape.critical._newton_mr import Proposal

__all__ = ["backtrack"]

_SUFFICIENT = 1e-4
# Most points take the full step; the others try several fractions in one vectorised pass.
_STAGES = ((0,), (1, 2, 3, 4), (5, 6, 7, 8, 10, 12, 14))


def backtrack(
    landscape: Landscape, thetas: Float[Tensor, "K M"], proposal: Proposal, merits: Float[Tensor, " K"]
) -> Float[Tensor, " K"]:
    """Return for each point the largest tried fraction α = 2^−j of its step with sufficient decrease, else 0.

    Armijo's condition: merit(θ + αp) ≤ merit(θ) + 1e-4 (α slope + ½ α² curvature).

    Source: Nocedal and Wright, Numerical Optimization, section 3.1.

    Args:
        landscape: the risk.
        thetas: points θ, (K, M).
        proposal: directions p and their merit functions.
        merits: merit at θ, (K,).

    Returns:
        α, (K,).
    """
    accepted = torch.zeros_like(merits)
    open_points = torch.arange(len(merits), device=merits.device)
    for stage in _STAGES:
        if not len(open_points):
            break
        fractions = torch.tensor([2.0**-j for j in stage], dtype=merits.dtype, device=merits.device)
        trials = thetas[open_points, None] + fractions[:, None] * proposal.directions[open_points, None]
        reached = _merits(landscape, trials, proposal.on_gradient[open_points])
        linear = fractions * proposal.slopes[open_points, None]
        bound = merits[open_points, None] + _SUFFICIENT * (
            linear + fractions.square() / 2 * proposal.curvatures[open_points, None]
        )
        enough = torch.isfinite(reached) & (reached <= bound) & (reached < merits[open_points, None])
        accepted[open_points] = torch.where(enough, fractions, 0.0).amax(dim=1)
        open_points = open_points[accepted[open_points] == 0]
    return accepted


def _merits(landscape: Landscape, trials: Tensor, on_gradient: Tensor) -> Tensor:
    """Return ‖g‖² or R at trial points (K, J, M), as each row asks."""
    reached = trials.new_empty(trials.shape[:2])
    for by_gradient in (True, False):
        rows = on_gradient == by_gradient
        if bool(rows.any()):
            flat = trials[rows].flatten(0, 1)
            values = landscape.gradients(flat).square().sum(dim=1) if by_gradient else landscape.values(flat)
            reached[rows] = values.view(-1, trials.shape[1])
    return reached
