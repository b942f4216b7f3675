"""A user's model, weights and loss as liftscape needs them."""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from liftscape.cli._data import check_call, load_data
from liftscape.cli._print import tell
from liftscape.cli._user_code import call_user, find_user_object, is_reference
from liftscape.outcomes import LoadError
from liftscape.risk import EmpiricalRisk
from liftscape.samples import Batches
from liftscape.storage import load as load_network
from liftscape.storage import load_strictly, read_weights

__all__ = ["Loaded", "load", "load_model", "risk_of"]

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_LOSSES = ("mse", "cross_entropy")


class Loaded(NamedTuple):
    """What the commands work on.

    Attributes:
        base: the network that the user's function returns, with the user's weights.
        model: the network to work on: the base, or what a recipe makes of it.
        data: the batches.
    """

    base: nn.Module
    model: nn.Module
    data: Batches


def load(
    reference: str, data: str, weights: Path | None = None, recipe: Path | None = None, dtype: str = "float64"
) -> Loaded:
    """Read a model and its data in one dtype, and call the one on the other once.

    Args:
        reference: the model's function.
        data: the data's function or file.
        weights: a file of weights for the model.
        recipe: what ``lift`` or ``fold`` wrote from this model, a folder or .safetensors file with its own weights.
        dtype: "float64" or "float32".

    Returns:
        The model, its base and the data.

    Raises:
        LoadError: if something named cannot be read, or weights and a recipe are given at once.
        DataError: if the data cannot be used.
        ModelError: if the model cannot be called on the data.
    """
    if weights is not None and recipe is not None:
        raise LoadError(f"{recipe} holds its own weights; give it without --weights {weights}.")
    base = load_model(reference, weights, dtype)
    batches = load_data(data, _DTYPES[dtype])
    check_call(base, batches, reference)
    model = base if recipe is None else load_network(base, recipe).to(_DTYPES[dtype])
    return Loaded(base, model, batches)


def load_model(reference: str, weights: Path | None = None, dtype: str = "float64") -> nn.Module:
    """Return the network that a user's function makes, in the given dtype and with the given weights.

    Args:
        reference: ``file.py:function`` or ``package.module:function``, called without arguments.
        weights: .safetensors, or .pt with a state dict.
        dtype: "float64" or "float32".

    Returns:
        The network.

    Raises:
        LoadError: if the function cannot be called, returns no module, or the weights do not fit.
    """
    found = find_user_object(reference, "model")
    model = found if isinstance(found, nn.Module) or not callable(found) else call_user(found, reference)
    if not isinstance(model, nn.Module):
        raise LoadError(f"{reference} must return a torch.nn.Module, but it returned {_kind(model)}.")
    # Before the weights are copied, so that float64 weights keep all their digits.
    model = model.to(_DTYPES[dtype])
    if weights is not None:
        load_strictly(model, read_weights(weights), str(weights))
    return model


def risk_of(given: Loaded, loss: str | None) -> EmpiricalRisk:
    """Return the risk of what was loaded.

    Args:
        given: model and data.
        loss: as for :func:`load_loss`; None for cross_entropy where targets are integers, mse where they are real,
            which is told.

    Returns:
        The risk.
    """
    if loss is not None:
        return EmpiricalRisk(given.model, load_loss(loss), given.data)
    real = next(iter(given.data))[1].is_floating_point()
    risk = EmpiricalRisk(given.model, "mse" if real else "cross_entropy", given.data)
    tell(f"Loss: {'mse, as targets are real numbers' if real else 'cross_entropy, as targets are integers'}.")
    return risk


def load_loss(reference: str) -> Any:
    """Return a loss by its name, or a user's own.

    Args:
        reference: "mse", "cross_entropy", or ``file.py:function`` of (output, target).

    Returns:
        The name or the function.

    Raises:
        LoadError: if it is neither.
    """
    if reference in _LOSSES:
        return reference
    if not is_reference(reference):
        nearest = difflib.get_close_matches(reference, _LOSSES, n=1, cutoff=0.5)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else "."
        raise LoadError(f"the loss must be mse, cross_entropy or file.py:function, but {reference!r} was given{hint}")
    loss = find_user_object(reference, "loss")
    if not callable(loss):
        raise LoadError(f"{reference} must be a function of (output, target), but it is {_kind(loss)}.")
    return loss


def _kind(value: Any) -> str:
    """Name the type of a value with its article."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
