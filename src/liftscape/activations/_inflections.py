"""Inflections of smooth activations: points t₀ with σ″(t₀) = 0, around which a layer is linear to second order."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor

from liftscape.activations._kinds import kind_of

__all__ = ["Inflection", "inflections"]

# Brackets of the positive inflection of functions without a closed form; found by a sign change of σ″.
_BRACKETS = {"silu": ((-3.0, -2.0), (2.0, 3.0)), "mish": ((-3.0, -2.0), (1.0, 4.0))}
_CLOSED = {"tanh": (0.0,), "sigmoid": (0.0,), "sin": (0.0,), "gelu": (-(2.0**0.5), 2.0**0.5)}


@dataclass(frozen=True)
class Inflection:
    """A point t₀ with σ″(t₀) = 0 and σ′(t₀) ≠ 0.

    Attributes:
        point: t₀.
        value: σ(t₀).
        slope: σ′(t₀).
        third: σ‴(t₀).
    """

    point: float
    value: float
    slope: float
    third: float


def inflections(activation: Any, *args: Any, **kwargs: Any) -> tuple[Inflection, ...]:
    """Return the inflections t₀ of a smooth activation at which σ′(t₀) ≠ 0, in ascending order.

    Source: theory T7, derived.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        *args: the call's arguments after the input.
        **kwargs: the call's keyword arguments.

    Returns:
        The inflections with the first and third derivative there; none where there is no such point, as for softplus.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> inflections(torch.tanh)[0]
        Inflection(point=0.0, value=0.0, slope=1.0, third=-2.0)
    """
    kind = kind_of(activation, *args, **kwargs)
    if kind.name == "gelu" and kind.parameters["approximate"] != "none":
        points = _solved("gelu_tanh", ((-2.0, -1.0), (1.0, 2.0)), torch.nn.GELU("tanh"))
    elif kind.name in _BRACKETS:
        function = {"silu": torch.nn.functional.silu, "mish": torch.nn.functional.mish}[kind.name]
        points = _solved(kind.name, _BRACKETS[kind.name], function)
    else:
        points = _CLOSED.get(kind.name, ())
    function = activation if not args and not kwargs else lambda t: activation(t, *args, **kwargs)
    found = (_derivatives(function, point) for point in points)
    return tuple(
        Inflection(point, d[0], d[1], d[3]) for point, d in zip(points, found, strict=True) if abs(d[1]) > 1e-12
    )


def _derivatives(function: Any, point: float, order: int = 3) -> list[float]:
    """Return σ, σ′, … at a point by repeated backward passes in float64."""
    t = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        current: Tensor = function(t)
        values = [current.item()]
        for _ in range(order):
            (current,) = torch.autograd.grad(current, t, create_graph=True)
            values.append(current.item())
    return values


@lru_cache
def _solved(name: str, brackets: tuple[tuple[float, float], ...], function: Any) -> tuple[float, ...]:
    """Return the zeros of σ″ in the brackets."""
    roots = [brentq(lambda t: _derivatives(function, t, order=2)[2], *bracket, xtol=1e-15) for bracket in brackets]
    return tuple(float(root) for root in roots)  # pyright: ignore[reportArgumentType]
