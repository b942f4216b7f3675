"""The inputs of a model: a few of them, and what it raises on those that do not fit it."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from liftscape.outcomes import LiftscapeError, ModelError

__all__ = ["MODEL_ERRORS", "few_samples", "inputs_named"]

# What code of a user's own raises on inputs that do not suit it.
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError, ArithmeticError)

# Enough to tell what a network calls, whatever the size of a batch.
_FEW = 2


@contextmanager
def inputs_named(model: nn.Module, inputs: Any) -> Generator[None]:
    """Turn an error of the model's own into one that names the inputs, while the context lasts.

    Args:
        model: the module that is called.
        inputs: what it is called on.

    Yields:
        Nothing.

    Raises:
        ModelError: if the model raises on them.
        LiftscapeError: if it raises one of its own, as it is.
    """
    try:
        yield
    except LiftscapeError:
        raise
    except MODEL_ERRORS as error:
        given = f" of shape {tuple(inputs.shape)} and {inputs.dtype}" if isinstance(inputs, Tensor) else ""
        detail = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"{type(model).__name__} raised on inputs{given}: {detail}; give inputs that fit it."
        ) from error


def few_samples(batch: Any) -> Any:
    """Return the first samples of a batch, or the batch where its tensors differ in length.

    Args:
        batch: a tensor, or a nesting of tensors.

    Returns:
        Views of at most two samples.
    """
    batch = dict(batch) if isinstance(batch, Mapping) else batch
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)}
    if len(sizes) != 1 or max(sizes) <= _FEW:
        return batch
    return tree_map_only(Tensor, lambda leaf: leaf[:_FEW], batch)
