"""Affine tails: half-lines on which a smooth activation is affine to below rounding, with a proved bound."""

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc, exp, inf, pi, sqrt
from typing import Any

import torch

from liftscape.activations._kinds import kind_of
from liftscape.activations._pieces import _SELU_SCALE, AffinePiece
from liftscape.outcomes import ActivationError

__all__ = ["affine_tails", "tail_beyond"]

# Every bound below decreases from here on, in the activation's own unit of length.
_MONOTONE_FROM = 2.0
_FARTHEST = 1e4


@dataclass(frozen=True)
class _Tail:
    """One tail: its side, its line, and bounds of |σ − line| and |σ′ − λ| at distance c from 0 and beyond."""

    side: int
    slope: float
    intercept: float
    bound: Callable[[float], float]
    slope_bound: Callable[[float], float]
    unit: float = 1.0


def _gaussian(t: float) -> float:
    """Return the standard normal density."""
    return exp(-t * t / 2) / sqrt(2 * pi)


def _gelu(p: dict[str, Any]) -> tuple[_Tail, ...]:
    """1 − Φ(t) ≤ φ(t)/t; for the tanh form 1 − tanh u ≤ 2e^{−2u}."""
    if p["approximate"] == "none":
        bounds = (lambda c: c * erfc(c / sqrt(2)) / 2, lambda c: c * _gaussian(c) + erfc(c / sqrt(2)) / 2)
    else:
        a, b = sqrt(2 / pi), 0.044715

        def decay(c: float) -> float:
            return exp(-2 * a * (c + b * c**3))

        bounds = (lambda c: c * decay(c), lambda c: decay(c) * (1 + 2 * c * a * (1 + 3 * b * c * c)))
    return _Tail(-1, 0.0, 0.0, *bounds), _Tail(1, 1.0, 0.0, *bounds)


def _silu(p: dict[str, Any]) -> tuple[_Tail, ...]:
    """1 − s(t) ≤ e^{−t} for the logistic function s."""
    bounds = (lambda c: c * exp(-c), lambda c: (1 + c) * exp(-c))
    return _Tail(-1, 0.0, 0.0, *bounds), _Tail(1, 1.0, 0.0, *bounds)


def _mish(p: dict[str, Any]) -> tuple[_Tail, ...]:
    """tanh(softplus(t)) = 1 − 2/((1 + e^t)² + 1) on the right, at most e^t on the left."""
    right = (lambda c: 2 * c * exp(-2 * c), lambda c: (2 + 4 * c) * exp(-2 * c))
    left = (lambda c: c * exp(-c), lambda c: (1 + c) * exp(-c))
    return _Tail(-1, 0.0, 0.0, *left), _Tail(1, 1.0, 0.0, *right)


def _softplus(p: dict[str, Any]) -> tuple[_Tail, ...]:
    """ln(1 + e^{−βt}) ≤ e^{−βt}; above torch's own threshold the deviation is 0."""
    beta = float(p["beta"])
    bounds = (lambda c: exp(-beta * c) / beta, lambda c: exp(-beta * c))
    return _Tail(-1, 0.0, 0.0, *bounds, unit=1 / beta), _Tail(1, 1.0, 0.0, *bounds, unit=1 / beta)


def _logsigmoid(p: dict[str, Any]) -> tuple[_Tail, ...]:
    """Mirrored softplus."""
    bounds = (lambda c: exp(-c), lambda c: exp(-c))
    return _Tail(-1, 1.0, 0.0, *bounds), _Tail(1, 0.0, 0.0, *bounds)


def _saturating(slope: float, intercept: float, sign: float) -> tuple[_Tail, ...]:
    """1 − tanh t ≤ 2e^{−2t}, in σ = slope·t + intercept ± sign."""
    bounds = (lambda c: 2 * exp(-2 * c), lambda c: 4 * exp(-2 * c))
    return _Tail(-1, slope, intercept - sign, *bounds), _Tail(1, slope, intercept + sign, *bounds)


def _exponential(scale: float, length: float) -> tuple[_Tail, ...]:
    """The left side scale·(e^{t/length} − 1) of the ELU family."""
    return (
        _Tail(
            -1,
            0.0,
            -scale,
            lambda c: abs(scale) * exp(-c / length),
            lambda c: abs(scale) / length * exp(-c / length),
            length,
        ),
    )


_TAILS: dict[str, Callable[[dict[str, Any]], tuple[_Tail, ...]]] = {
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "logsigmoid": _logsigmoid,
    "tanh": lambda p: _saturating(0.0, 0.0, 1.0),
    "tanhshrink": lambda p: _saturating(1.0, 0.0, -1.0),
    "sigmoid": lambda p: (
        _Tail(-1, 0.0, 0.0, lambda c: exp(-c), lambda c: exp(-c)),
        _Tail(1, 0.0, 1.0, lambda c: exp(-c), lambda c: exp(-c)),
    ),
    "elu": lambda p: _exponential(float(p["alpha"]), 1.0) if p["alpha"] else (),
    "celu": lambda p: _exponential(float(p["alpha"]), float(p["alpha"])),
    "selu": lambda p: _exponential(_SELU_SCALE * 1.6732632423543772848170429916717, 1.0),
}


def affine_tails(
    activation: Any, *args: Any, tolerance: float | None = None, dtype: torch.dtype = torch.float64, **kwargs: Any
) -> tuple[AffinePiece, ...]:
    """Return the half-lines on which |σ(t) − λt − μ| and |σ′(t) − λ| are proved to stay below the tolerance.

    Source: theory T7b, derived; the bounds are those of the normal tail, the logistic function and tanh.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        *args: the call's arguments after the input.
        tolerance: the bound asked for; the machine epsilon of dtype when None.
        dtype: the dtype whose epsilon is used.
        **kwargs: the call's keyword arguments.

    Returns:
        The tails with their bounds, left before right; none for an activation without. Dead tails have λ = 0.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> tail = affine_tails(torch.nn.GELU())[1]
        >>> 8 < tail.lower < 9, tail.slope, tail.bound < 2.3e-16
        (True, 1.0, True)
    """
    kind = kind_of(activation, *args, **kwargs)
    goal = torch.finfo(dtype).eps if tolerance is None else tolerance
    tails = _TAILS[kind.name](kind.parameters) if kind.name in _TAILS else ()
    return tuple(_piece(tail, _threshold(tail, goal)) for tail in tails)


def tail_beyond(activation: Any, *args: Any, threshold: float, **kwargs: Any) -> AffinePiece:
    """Return the alive affine tail beyond a threshold chosen by the caller, with its bounds.

    Source: theory T7b.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        *args: the call's arguments after the input.
        threshold: the distance c > 0 of the tail's end from 0.
        **kwargs: the call's keyword arguments.

    Returns:
        (c, ∞) or (−∞, −c) with λ ≠ 0 and the deviation at c.

    Raises:
        ActivationError: if the activation has no alive tail, or c is too small for the bound to hold.

    Example:
        >>> tail_beyond(torch.nn.GELU(), threshold=9.0).bound < 1e-17
        True
    """
    kind = kind_of(activation, *args, **kwargs)
    tails = [tail for tail in (_TAILS[kind.name](kind.parameters) if kind.name in _TAILS else ()) if tail.slope]
    if not tails:
        raise ActivationError(f"{kind.name} has no affine tail with a slope other than 0; use GELU, SiLU or Mish.")
    if threshold < _MONOTONE_FROM * tails[-1].unit:
        raise ActivationError(
            f"the tail of {kind.name} has a proved bound from {_MONOTONE_FROM * tails[-1].unit:g} on, "
            f"but threshold {threshold:g} was given; choose a larger one."
        )
    return _piece(tails[-1], threshold)


def _piece(tail: _Tail, c: float) -> AffinePiece:
    """Return the tail beyond c as a piece."""
    lower, upper = (c, inf) if tail.side > 0 else (-inf, -c)
    return AffinePiece(lower, upper, tail.slope, tail.intercept, tail.bound(c), tail.slope_bound(c))


def _threshold(tail: _Tail, goal: float) -> float:
    """Return the smallest c, to a thousandth, at which both bounds are below the goal, by bisection."""
    low, high = _MONOTONE_FROM * tail.unit, _FARTHEST * tail.unit

    def meets(c: float) -> bool:
        return max(tail.bound(c), tail.slope_bound(c)) <= goal

    if meets(low):
        return low
    while high - low > 1e-3 * tail.unit:
        middle = (low + high) / 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high
