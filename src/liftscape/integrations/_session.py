"""An ONNX model as a function, run by onnxruntime on the CPU."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from liftscape.integrations._packages import import_extra
from liftscape.outcomes import ModelError

__all__ = ["Session"]

_ERRORS_ONLY = 3


@final
class Session:
    """An ONNX model that can be called.

    Args:
        content: bytes of the file.
        name: of the model, for refusals.

    Raises:
        ModelError: if onnxruntime cannot run it.
    """

    def __init__(self, content: bytes, name: str) -> None:
        runtime = import_extra("onnxruntime", "onnx", "an ONNX file")
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._name = name
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._refusal(error) from error
        self.inputs: tuple[str, ...] = tuple(each.name for each in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(each.name for each in self._session.get_outputs())

    def __call__(self, inputs: Any, expected: int) -> list[Tensor]:
        """Return the outputs.

        Args:
            inputs: as the model takes them.
            expected: how many outputs torch gives.

        Returns:
            The tensors.

        Raises:
            ModelError: if onnxruntime cannot run the model on them, or returns another number of outputs.
        """
        leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        named = dict(zip(self.inputs, leaves, strict=False))
        if isinstance(inputs, Mapping) and set(self.inputs) <= inputs.keys():
            named = {name: inputs[name] for name in self.inputs}
        try:
            outputs = self._session.run(None, {name: tensor.numpy() for name, tensor in named.items()})
        except Exception as error:
            raise self._refusal(error) from error
        if len(outputs) != expected:
            raise ModelError(f"{self._name} returns {expected} tensors, but its ONNX file {len(outputs)}; wrap it.")
        return [torch.as_tensor(each) for each in outputs]

    def _refusal(self, error: Exception) -> ModelError:
        """Say that onnxruntime cannot run the model, and why."""
        reason = " ".join(str(error).split()).rstrip(".")
        return ModelError(f"onnxruntime cannot run {self._name}: {reason}; it has all operators in float32 only.")
