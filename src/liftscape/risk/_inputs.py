"""What a model raises on inputs that do not fit it, as one sentence that names them."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from liftscape.outcomes import LiftscapeError, ModelError

__all__ = ["inputs_named"]


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
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        given = f" of shape {tuple(inputs.shape)} and {inputs.dtype}" if isinstance(inputs, Tensor) else ""
        detail = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"{type(model).__name__} raised on inputs{given}: {detail}; give inputs that fit it."
        ) from error
