"""What takes the place of functions of torch while a model is called, so that derivatives are those of its output."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from liftscape.outcomes import ModelError

__all__ = ["faithful"]

# Names of what writes into its first argument; those that end in one underscore do so too, but for a few.
_WRITERS = frozenset((
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__ifloordiv__",
    "__imod__",
    "__ipow__",
))
_NO_WRITERS = frozenset(("requires_grad_", "detach_", "share_memory_", "rename_"))


@contextmanager
def faithful(inputs: list[Tensor]) -> Generator[None]:
    """Let a model compute what it does by functions whose derivatives are right, and keep it off its inputs.

    Torch's weight normalisation has a wrong second derivative; an embedding leaves out the gradient of its padding row,
    scales it by counts, or renormalises the caller's weights; a checkpointed part would be computed again when the
    parameters of the call are gone.

    Args:
        inputs: of the call.

    Yields:
        Nothing.

    Raises:
        ModelError: if the model writes into its inputs.
    """
    kept = {place for leaf in inputs if (place := _place(leaf)) is not None}
    names = {"_checkpoint_without_reentrant_generator": _once, "CheckpointFunction": _Plain}
    before = {name: getattr(checkpoint, name) for name in names}
    try:
        for name, plain in names.items():
            setattr(checkpoint, name, plain)
        with _Substitutes(kept):
            yield
    finally:
        for name, own in before.items():
            setattr(checkpoint, name, own)


@final
class _Substitutes(TorchFunctionMode):
    """Calls the substitute of a function where it has one, and refuses what writes into the inputs."""

    def __init__(self, kept: set[int]) -> None:
        super().__init__()
        self._kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._kept and args and _writes(name, kwargs) and _place(args[0]) in self._kept:
            raise ModelError(
                f"the model writes into its inputs by {name}, which would change the data; give the module "
                "inplace=False, or let forward begin with a copy."
            )
        substitute = _SUBSTITUTES.get(func)
        return func(*args, **kwargs) if substitute is None else substitute(*args, **kwargs)


def _writes(name: str, kwargs: dict[str, Any]) -> bool:
    """Tell whether a function writes into its first argument."""
    ends = name.endswith("_") and not name.endswith("__") and name not in _NO_WRITERS
    return ends or name in _WRITERS or kwargs.get("inplace") is True


def _place(tensor: Any) -> int | None:
    """Return where a tensor's numbers lie, None where it has no such place."""
    if not isinstance(tensor, Tensor):
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):
        return None


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Return g v / ‖v‖, norms over all axes but one."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _embedding(
    indices: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows, shortened to a largest norm by a factor that is differentiated."""
    del padding_idx, scale_grad_by_freq, sparse
    rows = embedding(indices, weight)
    if max_norm is None:
        return rows
    norms = torch.linalg.vector_norm(rows, norm_type, dim=-1, keepdim=True)
    return rows * torch.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)


def _rows(weight: Tensor, indices: Tensor, *_: Any, **__: Any) -> Tensor:
    """Return the rows, as torch's own function takes its arguments."""
    return embedding(indices, weight)


def _embedding_bag(indices: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return the bags of a copy of the weights, which torch renormalises in place."""
    return embedding_bag(indices, weight.clone(), *args, **{**kwargs, "scale_grad_by_freq": False, "sparse": False})


def _once(function: Any, *_: Any, **__: Any) -> Generator[None]:
    """Stand in for a checkpoint that keeps nothing: what runs before the function, and after it."""
    del function
    yield


@final
class _Plain:
    """Stands in for a checkpoint of the older kind."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        """Return what the function returns, with its whole graph."""
        return function(*args)


_SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    vars(torch)["_weight_norm"]: _weight_norm,
    embedding: _embedding,
    torch.embedding: _rows,
    embedding_bag: _embedding_bag,
}
