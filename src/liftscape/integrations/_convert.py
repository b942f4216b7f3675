"""A module as an ONNX graph whose batch axis is free, by torch.export."""

import logging
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from liftscape.functional import arguments_of, named_tensors
from liftscape.integrations._packages import import_extra
from liftscape.outcomes import ModelError

__all__ = ["call", "convert"]

_SAMPLES = 4
_LOGGERS = ("torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes")
_HINTS = re.compile(
    r"For (more|extended|additional)|If you're using|consider using|Suggested fixes|Caused by|The error above"
)


def call(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return the tensors among a model's outputs.

    Args:
        model: any module.
        inputs: one positional input, a tuple or list of positional inputs, or a mapping of keyword inputs.

    Returns:
        The tensors, in their order.
    """
    args, kwargs = arguments_of(inputs)
    return list(named_tensors(model(*args, **kwargs)).values())


def convert(network: nn.Module, inputs: Any, name: str) -> Any:
    """Return a module as an ONNX model without traces of where its source stands.

    Args:
        network: a module on the CPU.
        inputs: an example; the first axis of every tensor is the batch, of any length.
        name: of the module, for the refusal.

    Returns:
        The protocol buffer.

    Raises:
        ModelError: if torch cannot export it, with the reason that torch gives.
    """
    passes = import_extra("onnx_ir.passes.common", "onnx", "an ONNX file")
    example = tree_map_only(Tensor, _few, inputs)
    args, kwargs = arguments_of(example)
    free = torch.export.Dim("batch")
    shapes = tree_map(lambda leaf: {0: free} if isinstance(leaf, Tensor) else None, kwargs or args)
    try:
        with _quiet(), torch.no_grad():
            outputs = [path or "output" for path in named_tensors(network(*args, **kwargs))]
            # torch.onnx.export alone fixes the batch axis without a word where the module does.
            exported = torch.export.export(network, args, kwargs, dynamic_shapes=shapes)
            takes = [str(each) for each in exported.graph_signature.user_inputs]
            program = torch.onnx.export(
                exported,
                input_names=["input"] if len(takes) == 1 and not kwargs else None,
                # A name stands for one tensor of the graph.
                output_names=None if set(outputs) & {"input", *takes} else outputs,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            passes.ClearMetadataAndDocStringPass()(program.model)
            for value in (*program.model.graph.inputs, *program.model.graph.outputs, *program.model.graph):
                value.metadata_props.clear()
            return program.model_proto
    except Exception as error:
        raise ModelError(f"{name} cannot be exported: {_reason(error)}.") from error


def _few(leaf: Tensor) -> Tensor:
    """Return a few samples, at least two."""
    # torch.export takes an axis of length 1 for a fixed one.
    return torch.cat([leaf, leaf]) if len(leaf) == 1 else leaf[:_SAMPLES]


@contextmanager
def _quiet() -> Generator[None]:
    """Keep torch from printing graphs and hints while it exports; its reason comes with the exception."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            # torch copies a structure of its own that it has deprecated.
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first cause in one line, without hints for developers of torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(re.sub(r"\x1b\[\d*m|For more information, run with \S+", "", str(error)).split())
    hints = _HINTS.search(text)
    return text[: hints.start() if hints else None].strip(" .-") or type(error).__name__
