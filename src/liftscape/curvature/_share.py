"""The share of eigenvalues below a threshold: bounds of one probe's measure, and an interval from several probes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.special import betainc
from torch import Tensor

__all__ = ["share_interval", "share_of_probe"]

# The node of a Gauss-Radau rule that answers a threshold next to a Gauss node lies so far out that digits are lost.
_FAR = 1e4
_SHIFTS = 50


def share_of_probe(
    nodes: Float[Tensor, " n"],
    weights: Float[Tensor, " n"],
    couplings: Float[Tensor, " n"],
    threshold: float,
    rounding: float,
) -> tuple[float, float]:
    """Bound the mass below t of a measure of which n steps of Lanczos are known.

    The Gauss-Radau rule with a node at t has, below t, no more mass than any measure of the same moments, and with the
    node at t no less. In the basis of Ritz vectors its matrix is diag θ bordered by their couplings c and
    t + Σ c²/(θ − t). No bound is sharper.

    Source: Chebyshev-Markov-Stieltjes inequality, Akhiezer 1965, The Classical Moment Problem, 2.5; Golub 1973 for the
    rule.

    Args:
        nodes: θ, ascending, (n,).
        weights: (s₁)², of sum 1, (n,).
        couplings: β s₁ sₙ / |s₁|, how each node hangs on the next Lanczos vector, (n,).
        threshold: t.
        rounding: by how much rounding may have moved eigenvalues.

    Returns:
        Lower and upper bound.

    Example:
        >>> nodes, weights = torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
        >>> [round(end, 9) for end in share_of_probe(nodes, weights, torch.zeros(2, dtype=torch.float64), 0.0, 1e-9)]
        [0.5, 0.5]
        >>> _, upper = share_of_probe(nodes, weights, torch.tensor([1.0, -1.0], dtype=torch.float64), 0.0, 1e-9)
        >>> round(upper, 6)
        0.833333
    """
    lower = _beside(nodes, weights, couplings, threshold, -rounding, lambda below, _: below)
    upper = _beside(nodes, weights, couplings, threshold, rounding, lambda below, at: below + at)
    return (0.0 if lower is None else lower), (1.0 if upper is None else upper)


def _beside(
    nodes: Tensor,
    weights: Tensor,
    couplings: Tensor,
    threshold: float,
    step: float,
    read: Callable[[float, float], float],
) -> float | None:
    """Return what the rule says at the first shift, next to the threshold, at which it keeps its digits."""
    scale = float(nodes.abs().max()) + float(couplings.norm())
    for power in range(_SHIFTS):
        t = threshold + step * 2.0**power
        gaps = nodes - t
        hanging = couplings != 0
        if bool((gaps[hanging] == 0).any()):
            continue
        corner = t + float((couplings[hanging].square() / gaps[hanging]).sum())
        if abs(corner) > _FAR * max(scale, abs(t)):
            continue
        n = len(nodes)
        bordered = torch.zeros(n + 1, n + 1, dtype=nodes.dtype)
        bordered[:n, :n] = torch.diag(nodes)
        bordered[n, :n] = bordered[:n, n] = couplings
        bordered[n, n] = corner
        masses = (weights.sqrt() @ torch.linalg.eigh(bordered)[1][:n]).square()
        # The new nodes interlace with the old ones, so that the one at t is known by its place.
        place = int((gaps < 0).sum())
        return read(float(masses[:place].sum()), float(masses[place]))
    return None


def share_interval(low: float, high: float, size: int, probes: int, confidence: float) -> tuple[float, float]:
    """Return the interval of N/M, N of M eigenvalues lying below a threshold, from bounds of the probes' mean mass.

    For Gaussian probes g, Σ‖g‖² μ(g) / Σ‖g‖², μ the mass of g/‖g‖ below the threshold, is a sum of nN squares over nM,
    and so Beta(nN/2, n(M − N)/2) distributed: the interval holds the N of which it is neither too large nor too small,
    and covers with the confidence for any number of probes.

    Source: Clopper and Pearson 1934, Biometrika 26, with the law of the beta distribution; derived.

    Args:
        low: lower bound of that mean.
        high: upper bound.
        size: M.
        probes: n.
        confidence: of the interval.

    Returns:
        Both ends.

    Example:
        >>> share_interval(0.0, 0.0, 100, 1, 0.99)
        (0.0, 0.0)
        >>> share_interval(0.5, 0.5, 100, 4, 0.99)
        (0.41, 0.59)
    """
    tail = (1 - confidence) / 2

    def above(count: int) -> float:
        return _tail(probes * (size - count), probes * count, 1 - low) if low > 0 else 1.0

    def below(count: int) -> float:
        return _tail(probes * count, probes * (size - count), high) if high < 1 else 1.0

    least = _first(lambda count: above(count) > tail, size)
    most = size - _first(lambda count: below(size - count) > tail, size)
    return min(least, most) / size, max(least, most) / size


def _tail(first: int, second: int, value: float) -> float:
    """Return P(X ≤ value), X ~ Beta(first/2, second/2), 0 and 1 being certain where one of them is 0."""
    if not first:
        return 1.0
    return float(betainc(first / 2, second / 2, value)) if second else 0.0


def _first(holds: Callable[[int], bool], most: int) -> int:
    """Return the first count at which a condition holds that goes on holding; the last where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
