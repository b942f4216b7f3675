"""Calls of networks that are made of torch's plain layers only, which need no care and so take little time."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor, nn

__all__ = ["Places", "in_place_of", "is_simple", "places_of"]

# Whose code is known to keep its inputs and attributes as they are.
_PLAIN = ("torch.nn.modules.", "liftscape.")
# Whose kernels, or what they do with rows, differ from what is differentiated twice.
_NOT_PLAIN = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
)
# The dictionary of a module in which a tensor stands, its key there, its full name, the tensor, and whether it is a
# buffer.
Places = list[tuple[dict[str, Any], str, str, Tensor, bool]]


def is_simple(model: nn.Module) -> bool:
    """Tell a network of torch's layers that leave their inputs and themselves alone, with derivatives of their outputs.

    Args:
        model: any module.

    Returns:
        Whether all of its modules are such layers.
    """
    return all(map(_is_plain, model.modules()))


def _is_plain(module: nn.Module) -> bool:
    """Tell one such layer."""
    return (
        _is_plain_type(type(module))
        and not module._forward_pre_hooks
        and not module._forward_hooks
        and module._compiled_call_impl is None
        and not vars(module).get("inplace", False)
    )


@cache
def _is_plain_type(kind: type[nn.Module]) -> bool:
    """Tell a type of layers that runs on kernels with a second derivative."""
    return kind.__module__.startswith(_PLAIN) and not issubclass(kind, _NOT_PLAIN)


def places_of(model: nn.Module) -> Places:
    """Return where the parameters and buffers of a model stand, each module once.

    Args:
        model: any module.

    Returns:
        The places in the order of the module tree.
    """
    return [
        (held, key, f"{prefix}.{key}" if prefix else key, tensor, is_buffer)
        for prefix, module in model.named_modules()
        for held, is_buffer in ((module._parameters, False), (module._buffers, True))
        for key, tensor in held.items()
        if tensor is not None
    ]


@contextmanager
def in_place_of(places: Places, values: Mapping[int, Tensor]) -> Generator[None]:
    """Let other tensors stand for those of a model while the context lasts.

    Args:
        places: of the model.
        values: by the identities of the model's own tensors.

    Yields:
        Nothing.
    """
    try:
        for held, key, _, tensor, _ in places:
            if (value := values.get(id(tensor))) is not None:
                held[key] = value
        yield
    finally:
        for held, key, _, tensor, _ in places:
            held[key] = tensor
