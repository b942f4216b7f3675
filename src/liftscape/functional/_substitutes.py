"""What takes the place of functions of torch while a model is called, so that derivatives are those of its output."""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from threading import local
from typing import Any, final

import torch
from torch import Tensor
from torch.compiler import set_stance
from torch.nn.functional import embedding, embedding_bag
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from liftscape.functional._kernels import Held
from liftscape.functional._written import Written

__all__ = ["faithful"]

_thread = local()


@contextmanager
def faithful(inputs: Sequence[Tensor]) -> Generator[None]:
    """Let a model compute what it does by functions whose derivatives are right, and keep it off its inputs.

    Torch's weight normalisation has a wrong second derivative; an embedding leaves out the gradient of its padding row,
    scales it by counts, or renormalises the caller's weights; a checkpointed part would be computed again when the
    parameters of the call are gone; what was compiled has a graph of its own that can be differentiated once.

    Args:
        inputs: of the call.

    Yields:
        Nothing.

    Raises:
        ModelError: if the model wrote into its inputs, which are put back.
    """
    written, before = Written(inputs), getattr(_thread, "inside", False)
    # Without the compiler in memory nothing was compiled, and to load it takes seconds.
    eager = _EAGER.needed() if "torch._dynamo" in sys.modules else nullcontext()
    _thread.inside = True
    try:
        with written, _WHOLE_GRAPHS.needed(), eager, _Substitutes(written):
            yield
    finally:
        _thread.inside = before


@final
class _Substitutes(TorchFunctionMode):
    """Calls the substitute of a function where it has one, and looks out for what writes into the inputs."""

    def __init__(self, written: Written) -> None:
        super().__init__()
        self._written = written

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._written.look(func, args, kwargs)
        substitute = _SUBSTITUTES.get(func)
        return func(*args, **kwargs) if substitute is None else substitute(*args, **kwargs)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Return g v / ‖v‖, norms over all axes but one."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _shortened(rows: Tensor, most: float | None, order: float) -> Tensor:
    """Return rows with norms of at most so much, the factor differentiated."""
    if most is None:
        return rows
    longer = torch.linalg.vector_norm(rows.detach(), order, dim=-1, keepdim=True) > most
    # The norm of a row of zeros, which is none of these, has no derivative that a product with zero would remove.
    norms = torch.linalg.vector_norm(torch.where(longer, rows, 1.0), order, dim=-1, keepdim=True)
    return rows * torch.where(longer, most / (norms + 1e-7), 1.0)


def _embedding(
    indices: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows with the gradient of all of them."""
    del padding_idx, scale_grad_by_freq, sparse
    return _shortened(embedding(indices, weight), max_norm, norm_type)


def _rows(weight: Tensor, indices: Tensor, *_: Any, **__: Any) -> Tensor:
    """Return the rows, as torch's own function takes its arguments."""
    return embedding(indices, weight)


def _embedding_bag(
    indices: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    **options: Any,
) -> Tensor:
    """Return the bags of rows that are shortened beforehand."""
    del scale_grad_by_freq, sparse
    return embedding_bag(indices, _shortened(weight, max_norm, norm_type), offsets, mode=mode, **options)


_SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    vars(torch)["_weight_norm"]: _weight_norm,
    embedding: _embedding,
    torch.embedding: _rows,
    embedding_bag: _embedding_bag,
}


_RENEWED, _OLDER = checkpoint._checkpoint_without_reentrant_generator, checkpoint.CheckpointFunction


def _once(function: Any, *args: Any, **kwargs: Any) -> Generator[None]:
    """Run before and after a checkpointed part, which keeps its graph in threads that are inside."""
    if getattr(_thread, "inside", False):
        yield
    else:
        yield from _RENEWED(function, *args, **kwargs)


@final
class _Whole:
    """Stands in for a checkpoint of the older kind."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        """Return what the function returns."""
        if getattr(_thread, "inside", False):
            return function(*args)
        return _OLDER.apply(function, preserve, *args)


def _keep_graphs() -> Callable[[], object]:
    """Let checkpoints of threads that are inside keep their graphs, and all others do as ever."""
    checkpoint._checkpoint_without_reentrant_generator, checkpoint.CheckpointFunction = _once, _Whole
    return _recompute


def _recompute() -> None:
    """Let all checkpoints do as ever."""
    checkpoint._checkpoint_without_reentrant_generator, checkpoint.CheckpointFunction = _RENEWED, _OLDER


def _leave_compiler() -> Callable[[], object]:
    """Let what was compiled run as it was written."""
    stance = ExitStack()
    stance.enter_context(set_stance("force_eager"))
    return stance.close


_WHOLE_GRAPHS, _EAGER = Held(_keep_graphs), Held(_leave_compiler)
