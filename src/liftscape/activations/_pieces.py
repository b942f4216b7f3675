"""Affine pieces: open intervals on which an activation is σ(t) = λt + μ."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from liftscape.activations._kinds import Kind, kind_of
from liftscape.outcomes import ActivationError, Outcome

__all__ = ["AffinePiece", "affine_pieces", "exact_pieces", "is_positively_homogeneous", "kinks"]

_SELU_SCALE = 1.0507009873554804934193349852946


@dataclass(frozen=True)
class AffinePiece(Outcome):
    """An open interval (lower, upper) with |σ(t) − λt − μ| ≤ bound and |σ′(t) − λ| ≤ slope_bound on it.

    Attributes:
        lower: left end, may be −inf.
        upper: right end, may be inf.
        slope: λ; a piece with λ = 0 is dead.
        intercept: μ.
        bound: largest deviation; 0.0 says exact.
        slope_bound: largest deviation of the derivative.
    """

    lower: float
    upper: float
    slope: float
    intercept: float
    bound: float = 0.0
    slope_bound: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether λ ≠ 0."""
        return self.slope != 0.0

    @property
    def exact(self) -> bool:
        """Whether σ is this line on the interval, not merely within a bound of it."""
        return self.bound == 0.0

    @property
    def center(self) -> float:
        """The middle of a bounded piece, or a point one unit inside a half-line."""
        if self.lower == -inf:
            return 0.0 if self.upper == inf else self.upper - 1.0
        return self.lower + 1.0 if self.upper == inf else (self.lower + self.upper) / 2

    def contains(self, t: Tensor) -> Bool[Tensor, "..."]:
        """Tell which entries lie in the open interval.

        Args:
            t: any shape.

        Returns:
            Booleans of the same shape.
        """
        return (t > self.lower) & (t < self.upper)

    def distance(self, t: Tensor) -> Tensor:
        """Return the distance of each entry to the nearest end, negative outside.

        Args:
            t: any shape, floating point.

        Returns:
            Distances of the same shape; inf on the whole line.
        """
        return torch.minimum(t - self.lower, self.upper - t)


def _steps(*ends_and_lines: Any) -> tuple[AffinePiece, ...]:
    """Build pieces from alternating lines (λ, μ) and ends; a None line is a gap, equal neighbours are one piece."""
    lines, ends = ends_and_lines[0::2], (-inf, *ends_and_lines[1::2], inf)
    pieces: list[AffinePiece] = []
    for line, lower, upper in zip(lines, ends[:-1], ends[1:], strict=True):
        if line is None or not lower < upper:
            continue
        slope, intercept = float(line[0]), float(line[1])
        last = pieces[-1] if pieces else None
        if last and (last.upper, last.slope, last.intercept) == (lower, slope, intercept):
            pieces[-1] = AffinePiece(last.lower, float(upper), slope, intercept)
        else:
            pieces.append(AffinePiece(float(lower), float(upper), slope, intercept))
    return tuple(pieces)


def _clamp(p: dict[str, Any], low: str, high: str) -> tuple[AffinePiece, ...]:
    """Return the pieces of a clamp, either end of which may be absent."""
    low_end = -inf if p[low] is None else float(p[low])
    high_end = inf if p[high] is None else float(p[high])
    if low_end == -inf:
        return _steps((1, 0)) if high_end == inf else _steps((1, 0), high_end, (0, high_end))
    if high_end == inf:
        return _steps((0, low_end), low_end, (1, 0))
    return _steps((0, low_end), low_end, (1, 0), high_end, (0, high_end))


_EXACT: dict[str, Callable[[dict[str, Any]], tuple[AffinePiece, ...]]] = {
    "identity": lambda p: _steps((1, 0)),
    "relu": lambda p: _steps((0, 0), 0, (1, 0)),
    "relu6": lambda p: _steps((0, 0), 0, (1, 0), 6, (0, 6)),
    "leaky_relu": lambda p: _steps((p["negative_slope"], 0), 0, (1, 0)),
    "prelu": lambda p: _steps((p["weight"], 0), 0, (1, 0)),
    "rrelu": lambda p: _steps(((p["lower"] + p["upper"]) / 2, 0), 0, (1, 0)),
    "elu": lambda p: _steps((0, 0) if p["alpha"] == 0 else None, 0, (1, 0)),
    "selu": lambda p: _steps(None, 0, (_SELU_SCALE, 0)),
    "celu": lambda p: _steps(None, 0, (1, 0)),
    "hardtanh": lambda p: _clamp(p, "min_val", "max_val"),
    "clamp": lambda p: _clamp(p, "min", "max"),
    "hardsigmoid": lambda p: _steps((0, 0), -3, (1 / 6, 0.5), 3, (0, 1)),
    "hardswish": lambda p: _steps((0, 0), -3, None, 3, (1, 0)),
    "softshrink": lambda p: _steps((1, p["lambd"]), -p["lambd"], (0, 0), p["lambd"], (1, -p["lambd"])),
    "hardshrink": lambda p: _steps((1, 0), -p["lambd"], (0, 0), p["lambd"], (1, 0)),
    "threshold": lambda p: _steps((0, p["value"]), p["threshold"], (1, 0)),
    "softplus": lambda p: _steps(None, p["threshold"] / p["beta"], (1, 0)),
    "abs": lambda p: _steps((-1, 0), 0, (1, 0)),
}


def exact_pieces(kind: Kind, channel: int | None = None) -> tuple[AffinePiece, ...]:
    """Return the exact pieces of a named activation, ordered from left to right.

    Args:
        kind: the activation.
        channel: which channel, where the slope is learnt channel by channel.

    Returns:
        The pieces; none for an analytic nonlinear activation.

    Raises:
        ActivationError: if the slope differs by channel and no channel is given.
    """
    if kind.name == "prelu":
        weight = torch.as_tensor(kind.parameters["weight"]).detach().reshape(-1)
        if weight.numel() > 1 and channel is None:
            raise ActivationError(f"PReLU has {weight.numel()} slopes, one a channel; say which channel is meant.")
        kind = Kind("prelu", {"weight": float(weight[(channel or 0) if weight.numel() > 1 else 0])})
    return _EXACT[kind.name](kind.parameters) if kind.name in _EXACT else ()


def affine_pieces(activation: Any, *args: Any, channel: int | None = None, **kwargs: Any) -> tuple[AffinePiece, ...]:
    """Return the maximal open intervals on which σ(t) = λt + μ exactly, from left to right.

    Analytic nonlinear activations (tanh, sigmoid, GELU, SiLU, Mish, sin) have none; torch's Softplus is exactly linear
    above its threshold.

    Source: Bai et al. 2022 (arXiv 2205.13283), layer linearization; the table is derived from torch's definitions.

    Args:
        activation: an nn.Module, a function of torch or torch.nn.functional, or a Tensor method.
        *args: the call's arguments after the input, for functions and methods.
        channel: which channel, for a PReLU with several slopes.
        **kwargs: the call's keyword arguments.

    Returns:
        The pieces.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> [(piece.lower, piece.upper, piece.slope) for piece in affine_pieces(torch.relu)]
        [(-inf, 0.0, 0.0), (0.0, inf, 1.0)]
        >>> affine_pieces(torch.tanh)
        ()
    """
    return exact_pieces(kind_of(activation, *args, **kwargs), channel)


def kinks(activation: Any, *args: Any, **kwargs: Any) -> tuple[float, ...]:
    """Return the points where σ is not twice continuously differentiable, in ascending order.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        *args: the call's arguments after the input.
        **kwargs: the call's keyword arguments.

    Returns:
        The points; none for an analytic activation. ELU and CELU have one at 0, where the curvature jumps.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> kinks(torch.nn.Hardswish())
        (-3.0, 3.0)
    """
    kind = kind_of(activation, *args, **kwargs)
    if kind.name == "softsign":
        return (0.0,)
    pieces = exact_pieces(kind, channel=0)
    if kind.name == "prelu":
        # A channel whose slope is one has no kink, another may.
        return (0.0,) if bool((torch.as_tensor(kind.parameters["weight"]) != 1).any()) else ()
    ends = {end for piece in pieces for end in (piece.lower, piece.upper)}
    return tuple(sorted(end for end in ends if abs(end) != inf))


def is_positively_homogeneous(activation: Any, *args: Any, **kwargs: Any) -> bool:
    """Tell whether σ(st) = sσ(t) for every s > 0, as for the ReLU family.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        *args: the call's arguments after the input.
        **kwargs: the call's keyword arguments.

    Returns:
        True for ReLU, leaky ReLU, PReLU, RReLU in eval mode, abs, identity and clamps at 0 alone.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> is_positively_homogeneous(torch.nn.LeakyReLU()), is_positively_homogeneous(torch.tanh)
        (True, False)
    """
    pieces = exact_pieces(kind_of(activation, *args, **kwargs), channel=0)
    ends = {end for piece in pieces for end in (piece.lower, piece.upper)}
    covers = bool(pieces) and pieces[0].lower == -inf and pieces[-1].upper == inf
    return covers and ends <= {-inf, 0.0, inf} and all(piece.intercept == 0.0 for piece in pieces)
