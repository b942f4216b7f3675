"""What is known of torch's functions by their names, whichever way they are spelt."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Operation", "is_random", "operation_of", "plain_name"]


@dataclass(frozen=True)
class Operation:
    """What a function of torch does to the tensor that it reads first.

    Attributes:
        pointwise: whether each entry becomes a function of itself, of numbers and of the same entries of other tensors.
        activation: whether it is pointwise and more often an activation than arithmetic.
        plain: whether it is arithmetic, a cast or a view: no activation, whatever it is applied to.
        by_channel: whether it keeps the channels of pictures apart; flattened, each is a block of features.
        affine: whether it is an affine map with a weight.
        reads_sizes: whether it returns no tensor but a size, a dtype or an attribute.
        training: position among all arguments of the one that makes it random, and its default.
    """

    pointwise: bool = False
    activation: bool = False
    plain: bool = False
    by_channel: bool = False
    affine: bool = False
    reads_sizes: bool = False
    training: tuple[int, bool] | None = None


_ACTIVATIONS = (
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus softsign softshrink hardshrink tanhshrink "
    "hardtanh hardswish hardsigmoid threshold logsigmoid log_sigmoid sigmoid expit tanh"
)
_ARITHMETIC = (
    "add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv pow rpow neg clamp clamp_min clamp_max "
    "clip abs sin cos exp erf square sqrt clone contiguous identity"
)
# Pointwise, but their entries depend on those of other tensors.
_CHOICES = "ipow where gt lt ge le maximum minimum"
# Entry by entry as well, but the gradient stops, or numbers are rounded.
_CASTS = "log absolute sign detach to float double"
_VIEWS = "flatten unflatten reshape view transpose permute movedim squeeze unsqueeze expand chunk split unbind getitem"
_POOLS = "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"
_BY_CHANNEL = f"{_POOLS} flatten view reshape"
_AFFINE = "linear conv1d conv2d conv3d"
_SIZES = "size dim getattr numel stride is_floating_point"
_RANDOM = {"dropout": (2, True), "alpha_dropout": (2, False), "feature_alpha_dropout": (2, False), "rrelu": (3, False)}
_UNKNOWN = Operation()

_GROUPS = {
    "pointwise": f"{_ACTIVATIONS} {_ARITHMETIC} {_CHOICES}",
    "activation": _ACTIVATIONS,
    "plain": f"{_ARITHMETIC} {_CASTS} {_VIEWS}",
    "by_channel": _BY_CHANNEL,
    "affine": _AFFINE,
    "reads_sizes": _SIZES,
}
_NAMES = {group: frozenset(names.split()) for group, names in _GROUPS.items()}
_TABLE = {
    name: Operation(**{group: name in names for group, names in _NAMES.items()}, training=_RANDOM.get(name))
    for name in {*_RANDOM, *(name for names in _NAMES.values() for name in names)}
}


def plain_name(function: Any) -> str:
    """Return a function's name without the underscores of operators and of in-place forms.

    Args:
        function: of torch, or a name.

    Returns:
        As in "relu" for ``relu_``.
    """
    return str(function if isinstance(function, str) else getattr(function, "__name__", function)).strip("_")


def operation_of(function: Any) -> Operation:
    """Return what is known of a function.

    Args:
        function: of torch, or a name, in place or not.

    Returns:
        The entry of the table, one without any property where the function is not in it.

    Example:
        >>> import torch
        >>> operation_of(torch.relu_).activation, operation_of("softmax").pointwise
        (True, False)
    """
    return _TABLE.get(plain_name(function), _UNKNOWN)


def is_random(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Tell whether a dropout or a randomised slope is active in a call.

    Args:
        function: of torch, or its name.
        arguments: all positional ones of the call.
        keywords: the others.

    Returns:
        Whether it is.
    """
    training = operation_of(function).training
    if training is None:
        return False
    position, default = training
    return bool(keywords.get("training", arguments[position] if len(arguments) > position else default))
