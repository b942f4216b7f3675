"""Cross entropies over several batches: the sum of losses divided by what the weights of all data add up to."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from liftscape._intercept import Intercept
from liftscape.samples._loss import Loss

__all__ = ["NormalisedLoss", "normaliser_of"]

_NAMES = ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing")
_LOSSES = frozenset({functional.cross_entropy, functional.nll_loss})
_IGNORED = -100


@final
class NormalisedLoss:
    """A loss in which torch's mean cross entropies and negative log-likelihoods are Σ_i w_i ℓ_i / (n ν).

    Torch divides by Σ_i w_i over the batch, w_i being the weight of a target's class and zero for ``ignore_index``.
    With ν = Σ_i w_i / n over all data the mean over batches that are weighted by their samples is the loss on all of
    them, Σ_i w_i ℓ_i / Σ_i w_i, however they are split.

    Source: derived.

    Args:
        loss: the user's, of (output, target).
        per_sample: ν.

    Example:
        >>> weight = torch.tensor([1.0, 3.0])
        >>> loss = torch.nn.CrossEntropyLoss(weight)
        >>> z, y = torch.tensor([[1.0, 0.0], [0.5, 2.0]]), torch.tensor([0, 1])
        >>> halves = [NormalisedLoss(loss, 2.0)(z[i : i + 1], y[i : i + 1]) for i in (0, 1)]
        >>> torch.allclose(sum(halves) / 2, loss(z, y))
        True
    """

    def __init__(self, loss: Loss, per_sample: float) -> None:
        self.loss = loss
        self.per_sample = per_sample

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """Return the loss of a batch."""
        with _mean_replaced(lambda summed, _: summed / (len(target) * self.per_sample)):
            return self.loss(output, target)


def normaliser_of(loss: Loss, output: Any, target: Tensor) -> tuple[Tensor, float]:
    """Return the loss of a batch and what its mean cross entropies divide by.

    Args:
        loss: of (output, target).
        output: what the model returned.
        target: of the batch.

    Returns:
        The loss, and Σ_i w_i; NaN unless the loss takes exactly one such mean.
    """
    seen: list[float] = []

    def divided(summed: Tensor, normaliser: Tensor) -> Tensor:
        seen.append(float(normaliser))
        return summed / normaliser

    with _mean_replaced(divided):
        value = loss(output, target)
    return value, seen[0] if len(seen) == 1 else float("nan")


def _mean_replaced(divided: Callable[[Tensor, Tensor], Tensor]) -> Intercept:
    """Put a function of the summed loss and of its normaliser in the place of mean cross entropies."""

    def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func not in _LOSSES:
            return func(*args, **kwargs)
        given = kwargs | dict(zip(_NAMES, args, strict=False))
        legacy = given.get("size_average") is not None or given.get("reduce") is not None
        if legacy or given.get("reduction", "mean") != "mean":
            return func(**given)
        return divided(func(**{**given, "reduction": "sum"}), _weight_of(given))

    return Intercept(call)


def _weight_of(given: dict[str, Any]) -> Tensor:
    """Return the sum of the weights of a batch's targets."""
    output, target, weight = given["input"], given["target"], given.get("weight")
    if target.is_floating_point():
        # Probabilities of the classes count once, whatever the weights.
        return torch.tensor(target.numel() / output.shape[min(1, output.ndim - 1)], dtype=torch.float64)
    kept = target != given.get("ignore_index", _IGNORED)
    weights = kept if weight is None else weight.detach()[torch.where(kept, target, 0)] * kept
    return weights.sum(dtype=torch.float32 if weights.device.type == "mps" else torch.float64)
