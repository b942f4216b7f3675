"""The features that reach affine maps, streamed batch by batch and never kept."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from liftscape.functional import call_model, trainable_parameters, untouched
from liftscape.outcomes import DataError, SiteError

__all__ = [
    "first_batch",
    "hearing_inputs",
    "hearing_pairs",
    "iterate_inputs",
    "run_batches",
    "stream_features",
    "stream_outputs",
]


def iterate_inputs(inputs: Any) -> Iterator[Any]:
    """Yield batches of inputs from a tensor, an (inputs, targets) pair, or a re-iterable of either.

    Args:
        inputs: a tensor or mapping (one batch), a pair, or a re-iterable of batches or pairs.

    Yields:
        The inputs of each batch.

    Raises:
        DataError: if the source can be read only once, or a batch is empty or holds NaN or infinity.
    """
    if isinstance(inputs, (Tensor, Mapping)):
        yield _checked(inputs)
    elif isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], Tensor):
        yield _checked(inputs[0])
    elif isinstance(inputs, Iterable) and not isinstance(inputs, Iterator):
        for batch in inputs:
            yield _checked(batch[0] if isinstance(batch, (tuple, list)) else batch)
    else:
        raise DataError(
            f"inputs must be a tensor, (inputs, targets) or a re-iterable of batches, but {type(inputs).__name__} "
            "was given."
        )


def _checked(batch: Any) -> Any:
    """Return a batch, or raise if it is a tensor without samples or with a number that is not finite."""
    if isinstance(batch, Tensor) and batch.numel() == 0:
        raise DataError(f"inputs of shape {tuple(batch.shape)} hold no samples; give at least one.")
    if isinstance(batch, Tensor) and batch.is_meta:
        raise DataError(f"inputs of shape {tuple(batch.shape)} are on the meta device, where they hold no numbers.")
    if isinstance(batch, Tensor) and batch.is_floating_point() and not bool(torch.isfinite(batch).all()):
        index = tuple(torch.nonzero(~torch.isfinite(batch))[0].tolist())
        raise DataError(f"inputs of shape {tuple(batch.shape)} are not finite at index {index}; clean the data first.")
    return batch


def first_batch(inputs: Any) -> Any:
    """Return the inputs of the first batch.

    Args:
        inputs: as for :func:`iterate_inputs`.

    Returns:
        One batch.

    Raises:
        DataError: if there is none.
    """
    for batch in iterate_inputs(inputs):
        return batch
    raise DataError("inputs hold no batch; give at least one.")


def stream_features(
    model: nn.Module, names: Sequence[str], inputs: Any, receive: Callable[[str, Float[Tensor, "rows features"]], None]
) -> None:
    """Hand the features that reach each named module to a receiver, call by call, over all batches.

    The model runs in its own mode, with copies of its buffers, and is left as it was.

    Args:
        model: any module.
        names: modules whose first argument is wanted.
        inputs: as for :func:`iterate_inputs`.
        receive: called with the name and the features as rows.

    Raises:
        SiteError: if a module is never called.
    """
    with hearing_inputs(model, names, lambda name, h: receive(name, _rows(h))):
        run_batches(model, inputs)


def stream_outputs(
    model: nn.Module, names: Sequence[str], inputs: Any, receive: Callable[[str, Float[Tensor, "rows features"]], None]
) -> None:
    """Hand the outputs of each named module to a receiver, call by call, over all batches.

    Args:
        model: any module.
        names: modules whose output is wanted.
        inputs: as for :func:`iterate_inputs`.
        receive: called with the name and the outputs as rows.

    Raises:
        SiteError: if a module is never called.
    """
    seen: set[str] = set()

    def listen(name: str) -> RemovableHandle:
        def take(_module: nn.Module, _args: Any, output: Tensor) -> None:
            seen.add(name)
            receive(name, _rows(output))

        return model.get_submodule(name).register_forward_hook(take)

    with ExitStack() as stack:
        for name in names:
            stack.callback(listen(name).remove)
        run_batches(model, inputs)
    _require_calls(names, seen)


def run_batches(model: nn.Module, inputs: Any) -> None:
    """Run the model over all batches, in its own mode, with copies of its buffers.

    Args:
        model: any module; it is left as it was.
        inputs: as for :func:`iterate_inputs`.
    """
    with untouched(model), torch.no_grad():
        for batch in iterate_inputs(inputs):
            call_model(model, trainable_parameters(model), batch)


@contextmanager
def hearing_inputs(model: nn.Module, names: Sequence[str], receive: Callable[[str, Tensor], None]) -> Generator[None]:
    """Hand what reaches named modules to a receiver, in the shape it has, whenever the model is called.

    Args:
        model: any module.
        names: modules whose first argument is wanted.
        receive: called with the name and the features, which it must not keep.

    Yields:
        Nothing.

    Raises:
        SiteError: if at the end a module was never called.
    """
    seen: set[str] = set()

    def enter(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_module: nn.Module, args: Any) -> None:
            seen.add(name)
            receive(name, args[0].detach())

        return hook

    with ExitStack() as stack:
        for name in names:
            # Before the call, since an activation in place overwrites what it reads.
            stack.callback(model.get_submodule(name).register_forward_pre_hook(enter(name)).remove)
        yield
    _require_calls(names, seen)


@contextmanager
def hearing_pairs(
    model: nn.Module, pairs: Sequence[tuple[str, str]], receive: Callable[[tuple[str, str], Tensor, Tensor], None]
) -> Generator[None]:
    """Hand what reaches a first module and what leaves a last one to a receiver, whenever the model is called.

    Args:
        model: any module.
        pairs: names of modules, the first called before the last.
        receive: called with the pair, the features and the outputs, in the shapes they have.

    Yields:
        Nothing.

    Raises:
        SiteError: if at the end a last module was never called after its first one.
    """
    held: dict[str, Tensor] = {}
    seen: set[tuple[str, str]] = set()

    def leave(last: str, output: Tensor) -> None:
        for pair in pairs:
            if pair[1] == last and pair[0] in held:
                seen.add(pair)
                receive(pair, held[pair[0]], output.detach())

    def enter(first: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, args: held.update({first: args[0].detach().clone()})

    def exit_from(last: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, output: leave(last, output)

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(lambda _module, _args: held.clear()).remove)
        for first in {pair[0] for pair in pairs}:
            stack.callback(model.get_submodule(first).register_forward_pre_hook(enter(first)).remove)
        for last in {pair[1] for pair in pairs}:
            stack.callback(model.get_submodule(last).register_forward_hook(exit_from(last)).remove)
        yield
    for pair in pairs:
        if pair not in seen:
            raise SiteError(f"module '{pair[1]}' is never called after '{pair[0]}' on these inputs.")


def _rows(tensor: Tensor) -> Float[Tensor, "rows features"]:
    """Return features as rows, outside the graph."""
    return tensor.detach().reshape(-1, tensor.shape[-1])


def _require_calls(names: Sequence[str], seen: Collection[str]) -> None:
    """Raise if a named module was never called."""
    for name in names:
        if name not in seen:
            raise SiteError(f"module '{name}' is never called on these inputs, so no features reach it.")
