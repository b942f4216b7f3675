"""The quadratic model of R on the Krylov space of its gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._basis import Basis
from liftscape.curvature._lanczos import extend, ritz, start
from liftscape.curvature._work import Progress, Work, safe_power
from liftscape.operators import SymmetricOperator

__all__ = ["QuadraticModel", "krylov_model", "newton_step"]


@final
@dataclass(frozen=True)
class QuadraticModel:
    """m(p) = gᵀp + ½ pᵀHp on a space in which H is diagonal.

    Attributes:
        values: eigenvalues of H on the space, ascending, (n,).
        components: of g along their vectors, (n,).
        lift: maps coordinates (n,) to θ's space (M,).
        bound: an eigenvalue of H lies within this of the lowest value.
        products: how many products it took.
    """

    values: Float[Tensor, " n"]
    components: Float[Tensor, " n"]
    lift: Callable[[Float[Tensor, " n"]], Float[Tensor, " M"]]
    bound: float
    products: int


def krylov_model(
    H: SymmetricOperator, gradient: Float[Tensor, " M"], steps: int, progress: Progress | None = None
) -> QuadraticModel | None:
    """Return the model on the Krylov space of g, which holds its least value in a ball if that space is large enough.

    Source: Gould, Lucidi, Roma, Toint 1999, SIAM J. Optim. 9.

    Args:
        H: (M, M).
        gradient: g, (M,).
        steps: dimension of the space.
        progress: called with (products done, steps).

    Returns:
        The model; None where g vanishes.

    Example:
        >>> from liftscape.operators import as_operator
        >>> model = krylov_model(as_operator(torch.eye(3)), torch.tensor([0.0, 2.0, 0.0]), 3)
        >>> model.values.tolist(), model.components.abs().tolist()
        ([1.0], [2.0])
    """
    power = safe_power(gradient[None])
    if power is None:
        return None
    count = min(steps, H.size)
    work = Work(H, {}, expected=count, progress=progress)
    krylov = start(Basis(count + 1, H.size, H.dtype, H.device), gradient[None] * power)
    while krylov.pending and krylov.processed < count:
        extend(krylov, work, [0])
    found = ritz(krylov)
    first = float(krylov.basis.rows[0] @ gradient)

    def lift(coordinates: Tensor) -> Tensor:
        return krylov.basis.combine((found.vectors @ coordinates)[:, None])[0]

    bound = (float(found.residuals[0]) + krylov.rounding) / work.scale
    return QuadraticModel(found.values / work.scale, first * found.vectors[0], lift, bound, work.done)


def newton_step(
    H: SymmetricOperator, gradient: Float[Tensor, " M"], resolution: float, *, steps: int = 30
) -> Float[Tensor, " M"]:
    """Return Newton's step −H⁺g in the Krylov space of g, which leads to the critical point next to this one.

    Ritz values within ±resolution count as zero.

    Source: the Lanczos form of MINRES, Paige and Saunders 1975, SIAM J. Numer. Anal. 12, with a pseudo-inverse.

    Args:
        H: (M, M).
        gradient: g, (M,).
        resolution: the error bound of eigenvalues.
        steps: dimension of the space.

    Returns:
        p, (M,); zero at a vanishing gradient.

    Example:
        >>> from liftscape.operators import as_operator
        >>> H = as_operator(torch.diag(torch.tensor([-1.0, 4.0], dtype=torch.float64)))
        >>> newton_step(H, torch.tensor([1.0, 4.0], dtype=torch.float64), 1e-9).round(decimals=9).tolist()
        [1.0, -1.0]
    """
    model = krylov_model(H, gradient, steps)
    if model is None:
        return torch.zeros_like(gradient)
    seen = model.values.abs() > resolution
    coordinates = torch.where(seen, -model.components / torch.where(seen, model.values, 1.0), 0.0)
    return model.lift(coordinates).to(gradient)
