"""How a layer is folded: exactly on data, exactly on a box of inputs, or by least squares."""

from dataclasses import dataclass
from math import inf
from typing import Literal, final

import torch
from torch import Tensor

from liftscape.folding._bounds import box_of
from liftscape.outcomes import LiftscapeError

__all__ = ["Exact", "FoldMethod", "LeastSquares", "Proved", "as_fold_method"]


@final
@dataclass(frozen=True)
class Exact:
    """Fold the layers whose neurons each stay on one affine piece on all the data.

    Example:
        >>> Exact()
        Exact()
    """


@final
@dataclass(frozen=True)
class LeastSquares:
    """Fold the named layers by the affine map that fits best: Ŵ, b̂ = argmin Σ‖z − Wh − b‖² + ridge.

    Attributes:
        ridge: ρ ≥ 0, which adds ρ·(mean variance of a feature)·‖W‖² for each sample.

    Raises:
        LiftscapeError: if the ridge is negative or not finite.

    Example:
        >>> LeastSquares(ridge=0.1)
        LeastSquares(ridge=0.1)
    """

    ridge: float = 0.0

    def __post_init__(self) -> None:
        number = isinstance(self.ridge, (int, float)) and not isinstance(self.ridge, bool)
        if not number or not 0 <= self.ridge < inf:
            raise LiftscapeError(f"ridge must be a finite number of at least 0, but {self.ridge!r} was given.")


@final
@dataclass(frozen=True, eq=False)
class Proved:
    """Fold the layers that bounds show to be on one affine piece for every input of a box; no data are read.

    Attributes:
        box: lower and upper ends of one input.
        bounds: how pre-activations are bounded over the box: by linear functions or, faster and looser, by intervals.

    Raises:
        LiftscapeError: if the box is not two tensors of one input, or the bounds are of another kind.

    Example:
        >>> Proved(box=(-torch.ones(2), torch.ones(2))).bounds
        'linear'
    """

    box: tuple[Tensor, Tensor]
    bounds: Literal["linear", "interval"] = "linear"

    def __post_init__(self) -> None:
        if self.bounds not in {"linear", "interval"}:
            raise LiftscapeError(f"bounds must be 'linear' or 'interval', but {self.bounds!r} was given.")
        box: object = self.box
        if not isinstance(box, (tuple, list)) or [isinstance(end, torch.Tensor) for end in box] != [True, True]:
            raise LiftscapeError(f"a box is two tensors (low, high) of one input, but {box!r} was given.")
        box_of(*self.box)


FoldMethod = Exact | LeastSquares | Proved
# A proved fold has no default box, so that its name alone does not say what to do.
_NAMED: dict[str, FoldMethod] = {"exact": Exact(), "least-squares": LeastSquares()}


def as_fold_method(method: object) -> FoldMethod:
    """Return the method that is given or named.

    Args:
        method: a method, or ``"exact"`` or ``"least-squares"`` for the method with its defaults.

    Returns:
        The method.

    Raises:
        LiftscapeError: if there is no such method, or it has no defaults.

    Example:
        >>> as_fold_method("least-squares")
        LeastSquares(ridge=0.0)
    """
    if isinstance(method, (Exact, LeastSquares, Proved)):
        return method
    if isinstance(method, str) and method in _NAMED:
        return _NAMED[method]
    if method == "proved":
        raise LiftscapeError("a proved fold needs a box of inputs; give method=Proved(box=(low, high)).")
    raise LiftscapeError(
        "method must be 'exact', 'least-squares', Exact(), LeastSquares(ridge=…) or Proved(box=(low, high)), but "
        f"{method!r} was given."
    )
