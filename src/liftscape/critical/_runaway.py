"""Whether the steps of a search near a critical point, stand still, or run to infinity."""

import torch
from torch import Tensor

__all__ = ["WINDOW", "nears", "runs_away", "stands_still"]

WINDOW = 15
# The model's gradient is exact up to this share of what ‖g‖ falls by (e⁻¹ / (1 − e⁻¹) = 0.58 on an exponential's tail),
# a fall is one where rounding cannot make it, and a step shrinks where it is no longer than this share of the last.
_SURPRISE, _FALLS, _SHRINKS = 0.25, 1e-14, 0.9
# At a critical point the last steps shrink faster than geometrically, or are short; towards infinity they do neither.
_TAIL, _GEOMETRIC, _LONG = 5, 0.2, 1e-3


def stands_still(window: Tensor) -> Tensor:
    """Tell points (steps, K, 3) whose risk and gradient norm have not moved by a hundredth over the window."""
    if len(window) < WINDOW:
        return torch.zeros(window.shape[1], dtype=torch.bool, device=window.device)
    first, last = window[0, :, :2], window[-1, :, :2]
    return ((first - last).abs() <= 1e-2 * first.abs()).all(dim=1)


def nears(window: Tensor, surprise: Tensor) -> Tensor:
    """Tell points (steps, K, 3) that near a critical point far away.

    Towards infinity steps do not shrink, and ∇R differs from what the quadratic model expected by as much as it falls.

    Args:
        window: the last three evaluations.
        surprise: by how much ∇R differs from the model's, (K, M).

    Returns:
        Whether the last step was short, or ended where the model had it, (K,).
    """
    if len(window) < 2:
        return torch.ones(window.shape[1], dtype=torch.bool, device=window.device)
    before, now = window[-2, :, 1], window[-1, :, 1]
    fall = before - now
    exact = (fall > _FALLS * before) & (surprise.norm(dim=1) <= _SURPRISE * fall)
    shrinks = window[-2, :, 2] <= _SHRINKS * window[0, :, 2] if len(window) == 3 else exact
    return exact | shrinks


def runs_away(track: Tensor, last: int, norm: float | None = None) -> bool:
    """Tell whether ‖g‖ falls only geometrically while steps stay long: the infimum lies at infinity."""
    first = max(0, last - _TAIL)
    if last - first < 3 or not bool(torch.isfinite(track[first : last + 1]).all()):
        return False
    lengths, decay = track[first:last, 2], track[last, 1] / track[first, 1]
    scale = 1.0 if norm is None else 1 + norm
    return bool(decay < 1) and float(decay) > _GEOMETRIC ** (last - first) and float(lengths.min()) > _LONG * scale
