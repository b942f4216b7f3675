"""Directions in parameter space: random with filter normalisation, between networks, along and across a flat manifold.

An eigenvector is a direction as it is.
"""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from liftscape._random import as_generator
from liftscape.derivatives import flatten
from liftscape.functional import trainable_parameters
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = [
    "FlatManifold",
    "direction_between",
    "filter_normalised",
    "normal_direction",
    "random_direction",
    "tangent_direction",
]


@runtime_checkable
class FlatManifold(Protocol):
    """A manifold along which R does not change, such as a lifted one."""

    def tangent_basis(self) -> Tensor:
        """Return its tangent space at the point, (M, dimension)."""
        ...


def random_direction(
    risk: EmpiricalRisk,
    *,
    normalisation: Literal["filter", "unit"] = "filter",
    generator: torch.Generator | int | None = None,
) -> Float[Tensor, " M"]:
    """Draw a Gaussian direction, each filter as long as the network's, or the whole of unit length.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018 (arXiv 1712.09913), section 4.

    Args:
        risk: the risk whose parameters are meant.
        normalisation: ``"filter"`` as :func:`filter_normalised` does, or ``"unit"``.
        generator: on the CPU; seed 0 when None.

    Returns:
        The direction (M,), in the order of ``risk.parameters``.

    Raises:
        LiftscapeError: if the normalisation is unknown.

    Example:
        >>> x = torch.ones(4, 2)
        >>> risk = EmpiricalRisk(nn.Linear(2, 1), "mse", (x, x[:, :1]))
        >>> u = random_direction(risk)
        >>> torch.allclose(u[:2].norm(), risk.parameters["weight"].norm())
        True
    """
    require_risk(risk, "random_direction")
    if normalisation not in {"filter", "unit"}:
        raise LiftscapeError(f"normalisation must be 'filter' or 'unit', but {normalisation!r} was given.")
    drawn = _gaussian(risk.flatten(), generator)
    return filter_normalised(risk, drawn) if normalisation == "filter" else drawn / drawn.norm()


def filter_normalised(risk: EmpiricalRisk, direction: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Scale each filter of a direction to the norm of the network's own: d_f ‖θ_f‖ / ‖d_f‖.

    A filter is what makes one output: a row of a Linear's weight, an output channel of a convolution. A parameter with
    one axis, such as a bias or a norm layer's weight, is one filter as a whole. Where the network's filter is zero, as
    a fresh bias is, the direction is zero: it has no scale to be measured by, and nothing is divided by its norm.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018 (arXiv 1712.09913), section 4; biases and zero filters are derived.

    Args:
        risk: the risk whose parameters give the norms.
        direction: (M,).

    Returns:
        The scaled direction (M,).

    Raises:
        LiftscapeError: if the direction does not have one entry a parameter.

    Example:
        >>> x, net = torch.ones(4, 2), nn.Linear(2, 1)
        >>> _ = nn.init.zeros_(net.bias)
        >>> filter_normalised(EmpiricalRisk(net, "mse", (x, x[:, :1])), torch.ones(3))[2].item()
        0.0
    """
    require_risk(risk, "filter_normalised")
    check_direction(risk, direction)
    params = risk.parameters
    scaled = direction.detach().to(risk.flatten()).clone()
    transposed = _transposed(risk.model)
    for name, part in risk.unflatten(scaled).items():
        own, drawn = (_filter_norms(each, transposed.get(name)) for each in (params[name], part))
        part.mul_(torch.where(drawn > 0, own / drawn, torch.zeros_like(own)))
    return scaled


def direction_between(
    first: "nn.Module | Mapping[str, Tensor]", second: "nn.Module | Mapping[str, Tensor]"
) -> Float[Tensor, " M"]:
    """Return θ₂ − θ₁, so that a slice about θ₁ with radius (0, 1) leads from one network to the other.

    Source: Goodfellow, Vinyals, Saxe 2015 (arXiv 1412.6544), section 3.

    Args:
        first: a network, or θ₁ by name.
        second: a network with the same parameters, or θ₂ by name.

    Returns:
        The direction (M,), in the first's order.

    Raises:
        LiftscapeError: if names or shapes of the parameters differ.

    Example:
        >>> direction_between({"w": torch.zeros(2)}, {"w": torch.ones(2)}).tolist()
        [1.0, 1.0]
    """
    start, end = (trainable_parameters(each) if isinstance(each, nn.Module) else each for each in (first, second))
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (start, end)]
    if shapes[0] != shapes[1]:
        raise LiftscapeError(
            f"a line joins networks with the same parameters, but the first has {shapes[0]} and the second "
            f"{shapes[1]}; give two trainings of one architecture."
        )
    return (flatten({name: end[name] for name in start}) - flatten(start)).detach()


def tangent_direction(manifold: FlatManifold, *, generator: torch.Generator | int | None = None) -> Float[Tensor, " M"]:
    """Draw a unit vector tangent to a flat manifold at its point, uniformly.

    Source: derived.

    Args:
        manifold: anything with ``tangent_basis()``, such as a lifted manifold.
        generator: on the CPU; seed 0 when None.

    Returns:
        The direction (M,).

    Raises:
        LiftscapeError: if the manifold is a point.

    Example:
        >>> class Axis:
        ...     def tangent_basis(self):
        ...         return torch.tensor([[1.0], [0.0]])
        >>> tangent_direction(Axis()).abs().tolist()
        [1.0, 0.0]
    """
    Q = _orthonormal(manifold.tangent_basis())
    if not Q.shape[1]:
        raise LiftscapeError("a tangent direction was asked for, but the manifold is a point; take a normal one.")
    drawn = Q @ _gaussian(Q[0], generator)
    return drawn / drawn.norm()


def normal_direction(manifold: FlatManifold, *, generator: torch.Generator | int | None = None) -> Float[Tensor, " M"]:
    """Draw a unit vector normal to a flat manifold at its point: a Gaussian minus its projection on the tangent space.

    Source: derived.

    Args:
        manifold: anything with ``tangent_basis()``, such as a lifted manifold.
        generator: on the CPU; seed 0 when None.

    Returns:
        The direction (M,).

    Raises:
        LiftscapeError: if the tangent space is the whole space.

    Example:
        >>> class Axis:
        ...     def tangent_basis(self):
        ...         return torch.tensor([[1.0], [0.0]])
        >>> normal_direction(Axis()).abs().tolist()
        [0.0, 1.0]
    """
    Q = _orthonormal(manifold.tangent_basis())
    if Q.shape[1] == len(Q):
        raise LiftscapeError(
            f"a normal direction was asked for, but the tangent space has all {len(Q)} dimensions; take a tangent one."
        )
    drawn = _gaussian(Q[:, 0] if Q.shape[1] else Q.new_empty(len(Q)), generator)
    # Twice, so that rounding leaves no tangent part.
    for _ in range(2):
        drawn = drawn - Q @ (Q.T @ drawn)
    return drawn / drawn.norm()


def check_direction(risk: EmpiricalRisk, direction: Tensor) -> None:
    """Raise unless a direction has one finite entry a parameter."""
    if direction.shape != (risk.size,):
        raise LiftscapeError(
            f"a direction must have shape ({risk.size},), one entry a parameter of {type(risk.model).__name__}, but "
            f"{tuple(direction.shape)} was given."
        )
    if not bool(torch.isfinite(direction).all()):
        raise LiftscapeError("a direction must be finite, but it holds NaN or inf; leave such directions out.")


def _gaussian(like: Float[Tensor, " n"], generator: torch.Generator | int | None) -> Float[Tensor, " n"]:
    """Draw standard normal entries on the CPU, so that they are the same on every device."""
    draws = as_generator(generator)
    return torch.randn(like.shape, generator=draws, dtype=like.dtype).to(like.device)


def _transposed(model: nn.Module) -> dict[str, int]:
    """Name the parameters whose filters do not lie along the first axis, transposed convolutions, with their groups."""
    return {
        f"{name}.weight" if name else "weight": module.groups
        for name, module in model.named_modules()
        if isinstance(module, _ConvTransposeNd)
    }


def _filter_norms(tensor: Tensor, groups: int | None) -> Tensor:
    """Return the norm of each filter, shaped to multiply the tensor; one norm where there is one axis only."""
    if groups is None:
        others = tuple(range(1, tensor.ndim)) if tensor.ndim > 1 else None
        return torch.linalg.vector_norm(tensor, dim=others, keepdim=True)
    # The weight's axes are (inputs, outputs of a group, …): an output sees the inputs of its own group alone.
    parts = tensor.unflatten(0, (groups, -1))
    norms = torch.linalg.vector_norm(parts, dim=(1, *range(3, parts.ndim)), keepdim=True)
    return norms.expand(-1, parts.shape[1], *norms.shape[2:]).flatten(0, 1)


def _orthonormal(basis: Float[Tensor, "M d"]) -> Float[Tensor, "M rank"]:
    """Return an orthonormal basis of the columns' span."""
    if not basis.shape[1]:
        return basis
    left, singular, _ = torch.linalg.svd(basis.detach(), full_matrices=False)
    return left[:, singular > max(basis.shape) * torch.finfo(basis.dtype).eps * singular[0]]
