"""The inputs of a call, which a model may read and not write."""

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from liftscape.outcomes import ModelError

__all__ = ["Written"]

# Names of what may write into its first argument beside those that end in one underscore.
_OPERATORS = "setitem iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift"
_WRITERS = frozenset(f"__{name}__" for name in _OPERATORS.split(" "))


@final
class Written:
    """A context that puts the inputs back and raises if something wrote into them.

    Copies are made of those alone that a function which may write is called on.

    Args:
        inputs: the caller's tensors.

    Example:
        >>> import torch
        >>> x = torch.ones(2)
        >>> with Written([x]) as written:
        ...     written.look(Tensor.mul_, (x.view(2), 2.0), {})
        ...     _ = x.mul_(2.0)
        Traceback (most recent call last):
        liftscape.outcomes.ModelError: the model writes into its inputs by mul_, ...
        >>> x
        tensor([1., 1.])
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._places: dict[int, list[Tensor]] = {}
        for leaf in inputs:
            if (place := _place(leaf)) is not None:
                self._places.setdefault(place, []).append(leaf)
        self._copies: list[tuple[str, Tensor, Tensor]] = []

    def look(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Copy the inputs that a function may write into, before it is called.

        Args:
            func: of torch.
            args: its arguments.
            kwargs: likewise.
        """
        name = getattr(func, "__name__", "")
        if not self._places or not args:
            return
        if "out" in kwargs:
            outputs: Sequence[Any] = kwargs["out"] if isinstance(kwargs["out"], (tuple, list)) else [kwargs["out"]]
        elif name in _WRITERS or (name[-1:] == "_" and name[-2:] != "__") or kwargs.get("inplace") is True:
            outputs = args[:1]
        else:
            return
        for output in outputs:
            # Each place once: what was there first is what it is compared with.
            for leaf in self._places.pop(_place(output) or 0, []):
                self._copies.append((name, leaf, leaf.detach().clone()))

    def __enter__(self) -> "Written":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was written into, and raise if anything was."""
        changed = [(name, leaf, copy) for name, leaf, copy in self._copies if not _equal(leaf, copy)]
        self._copies = []
        for _name, leaf, copy in changed:
            # Not counted as a version, since nothing that was computed from these numbers is made wrong by it.
            leaf.data.copy_(copy)
        if changed:
            raise ModelError(
                f"the model writes into its inputs by {changed[0][0]}, which would change the data; give the module "
                "inplace=False, or let forward begin with a copy."
            )


def _equal(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors hold the same numbers, NaN in the same places."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _place(tensor: Any) -> int | None:
    """Return where a tensor's numbers lie, None where it has no such place."""
    if not isinstance(tensor, Tensor):
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except RuntimeError:
        return None
