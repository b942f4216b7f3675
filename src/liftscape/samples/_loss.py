"""Losses ℓ as a mean over the batch, with the checks that torch leaves to silence."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from liftscape.functional import loss_tensor, map_tensors, named_tensors
from liftscape.outcomes import DataError, LiftscapeError, ModelError

__all__ = ["Loss", "as_loss"]

# What the model returned, and the targets.
Loss = Callable[[Any, Tensor], Tensor]


def mean_squared_error(output: Any, target: Tensor) -> Tensor:
    """Return torch's mean squared error after refusing shapes that would broadcast."""
    output = loss_tensor(output, "mse")
    if output.shape != target.shape:
        raise DataError(
            f"mse needs outputs and targets of one shape, but outputs are {tuple(output.shape)} and targets "
            f"{tuple(target.shape)}, which would broadcast; reshape the targets."
        )
    return functional.mse_loss(output, target)


def mean_cross_entropy(output: Any, target: Tensor) -> Tensor:
    """Return torch's mean cross-entropy after checking class indices."""
    output = loss_tensor(output, "cross_entropy")
    indices = output.shape[:1] + output.shape[2:]
    if target.shape != output.shape and (target.shape != indices or target.is_floating_point()):
        raise DataError(
            f"cross_entropy needs class indices (integers) of shape {tuple(indices)}, or probabilities of shape "
            f"{tuple(output.shape)}, but targets are {target.dtype} of shape {tuple(target.shape)}."
        )
    if not target.is_floating_point():
        target = target.long()
        classes = output.shape[1] if output.ndim > 1 else output.shape[0]
        low, high = int(target.min()), int(target.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"cross_entropy needs class indices in 0..{classes - 1} (outputs have shape {tuple(output.shape)}), "
                f"but targets run from {low} to {high}."
            )
    return functional.cross_entropy(output, target)


_NAMED: dict[str, Loss] = {"mse": mean_squared_error, "cross_entropy": mean_cross_entropy}


def as_loss(loss: Literal["mse", "cross_entropy"] | Loss) -> Loss:
    """Return the loss as a callable of (output, target).

    Args:
        loss: ``"mse"``, ``"cross_entropy"`` or a callable that returns the mean over the batch. The named ones take the
            tensor output, or its entry ``logits``, or its only tensor; a callable gets what the model returns.

    Returns:
        The callable.

    Raises:
        ModelError: if the name is unknown.

    Example:
        >>> as_loss("mse")(torch.zeros(2, 1), torch.ones(2, 1))
        tensor(1.)
    """
    if callable(loss):
        return loss
    if loss not in _NAMED:
        raise ModelError(f"loss must be 'mse', 'cross_entropy' or a callable(output, target), but {loss!r} was given.")
    return _NAMED[loss]


def loss_name(loss: Loss) -> str | None:
    """Return the name of a named loss, None for a callable of the user's."""
    return next((name for name, known in _NAMED.items() if known is loss), None)


def check_loss(loss: Loss, output: Any, target: Tensor) -> None:
    """Raise if the loss is not a real scalar of the output alone, as with weight decay inside it."""
    with torch.enable_grad():
        value = _loss_of_users(loss, map_tensors(Tensor.detach, output), target)
    if not isinstance(value, Tensor) or value.ndim != 0:
        given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ModelError(f"the loss must return a scalar tensor, the mean over the batch, but it returned {given}.")
    if value.is_complex():
        raise ModelError(
            f"the loss must be a real number, but it is {value.dtype}; give its real part or absolute value."
        )
    if value.requires_grad:
        raise ModelError(
            "the loss depends on parameters other than through the model's output (such as weight decay inside the "
            "loss), under which lifting does not keep criticality; give a loss of (output, target) alone."
        )


def _loss_of_users(loss: Loss, output: Any, target: Tensor) -> Tensor:
    """Return the loss, where torch's complaints about its targets become one sentence with shapes."""
    given = ", ".join(f"{name} {tuple(part.shape)}".lstrip() for name, part in named_tensors(output).items())
    shapes = f"outputs of shape {given} and targets of shape {tuple(target.shape)}"
    with warnings.catch_warnings():
        # Torch's own squared and absolute errors only warn that they broadcast.
        warnings.filterwarnings("error", message="Using a target size", category=UserWarning)
        try:
            return loss(output, target)
        except LiftscapeError:
            raise
        except UserWarning as warning:
            raise DataError(f"the loss would broadcast {shapes} against each other; reshape the targets.") from warning
        except (IndexError, ValueError) as error:
            detail = " ".join(str(error).split()).rstrip(".")
            raise DataError(f"the loss raised on {shapes}: {detail}.") from error
