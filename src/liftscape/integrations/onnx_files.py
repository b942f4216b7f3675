"""A network as an ONNX file, and how far onnxruntime's outputs are from torch's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from liftscape._files import require_folder, write_atomically
from liftscape.functional import copy_model, require_module
from liftscape.integrations._convert import call, convert
from liftscape.integrations._packages import import_extra
from liftscape.integrations._session import Session
from liftscape.outcomes import LiftscapeError, LoadError, ModelError, Outcome
from liftscape.sites import first_batch, iterate_inputs

__all__ = ["OnnxExport", "check_onnx", "export_onnx", "to_onnx", "write_onnx"]

# A protocol buffer, which an ONNX file is, holds no more; room is left for the graph.
_LARGEST = 2**31 - 2**24
_DTYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class OnnxExport(Outcome):
    """An ONNX file with its evidence.

    Attributes:
        path: of the file.
        gap: max |f_onnxruntime − f_torch| / max |f_torch| over the inputs given, and over their first sample alone; the
            largest over the outputs.
        rounding: the same of torch in the exported dtype against the model in its own.
        tolerance: as it was given.
        agrees: whether the gap is within the tolerance.
        dtype: of the exported weights.
        inputs: names.
        outputs: names.
        operators: how many nodes the graph has.
        opset: version of ONNX's operators.
    """

    path: Path
    gap: float
    rounding: float
    tolerance: float
    agrees: bool
    dtype: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: int
    opset: int


def to_onnx(
    model: nn.Module,
    inputs: Any,
    path: "Path | str",
    *,
    dtype: torch.dtype = torch.float32,
    tolerance: float = 1e-5,
    overwrite: bool = False,
) -> OnnxExport:
    """Write a network as an ONNX file whose batch axis is free, and run it by onnxruntime beside torch.

    Exported is a copy in eval mode, by torch.export. The file appears whole or not at all, and only after onnxruntime
    has run it; it names no path of this machine, and the same network gives the same bytes.

    Args:
        model: any module, such as what a fold returns; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches; a tuple of inputs holds the model's positional
            arguments, a mapping its keyword arguments. The first axis of every tensor is the batch.
        path: of the file; its folder is made if it does not exist.
        dtype: of the exported weights and inputs; onnxruntime has few operators in float64.
        tolerance: of the gap, relative.
        overwrite: whether another file of that name may be replaced.

    Returns:
        The evidence; a gap above the tolerance is a value, not an error.

    Raises:
        MissingPackageError: if onnx, onnxscript or onnxruntime is not installed.
        ModelError: if torch cannot export the model or onnxruntime cannot run it, with the reason.
        LoadError: if the file exists and may not be overwritten.

    Example:
        >>> import tempfile
        >>> net, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(4, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_onnx(net, x, f"{folder}/net.onnx").agrees
        True
    """
    content, outcome = export_onnx(model, inputs, path, dtype=dtype, tolerance=tolerance)
    write_onnx(outcome.path, content, overwrite)
    return outcome


def check_onnx(target: Path) -> None:
    """Raise before any work where no ONNX file could come of it.

    Args:
        target: the file.

    Raises:
        LoadError: if the target is a folder, or below a file.
        MissingPackageError: if onnx, onnxscript or onnxruntime is not installed.
    """
    require_folder(target)
    if target.is_dir():
        raise LoadError(f"{target} is a folder; name a file such as {target / 'model.onnx'}.")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        import_extra(package, "onnx", "an ONNX file")


def write_onnx(target: Path, content: bytes, overwrite: bool) -> None:
    """Write an ONNX file in one step.

    Args:
        target: the file; its folder is made if it does not exist.
        content: its bytes.
        overwrite: whether a file of other bytes there may be replaced.

    Raises:
        LoadError: if it may not, or the target is a folder.
    """
    check_onnx(target)
    if target.exists() and not overwrite and target.read_bytes() != content:
        raise LoadError(f"{target} already holds another network; name another file or force it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)


def export_onnx(
    model: nn.Module, inputs: Any, path: "Path | str", *, dtype: torch.dtype = torch.float32, tolerance: float = 1e-5
) -> tuple[bytes, OnnxExport]:
    """Return an ONNX file's content with its evidence; nothing is written. See :func:`to_onnx`.

    Args:
        model: any module.
        inputs: as for :func:`to_onnx`.
        path: where the file will stand.
        dtype: of the exported weights and inputs.
        tolerance: of the gap.

    Returns:
        The bytes and the outcome.

    Raises:
        LiftscapeError: if the dtype or the tolerance is none.
        ModelError: if the model is none, on the meta device or too large, or cannot be exported or run.
    """
    if dtype not in _DTYPES or not tolerance >= 0:
        raise LiftscapeError(
            f"an export needs float16, float32 or float64 and a tolerance of at least 0, but {dtype} and {tolerance} "
            "were given."
        )
    check_onnx(Path(path))
    given, name = copy_model(require_module(model)).eval(), type(model).__name__
    network = copy_model(given).to("cpu", dtype)
    size = sum(tensor.nbytes for tensor in network.state_dict().values() if isinstance(tensor, Tensor))
    if size > _LARGEST:
        raise ModelError(f"{name} has {size:,} bytes of weights, but one ONNX file holds 2 GiB; export its parts.")
    proto = convert(network, _converted(first_batch(inputs), dtype), name)
    content = proto.SerializeToString(deterministic=True)
    session = Session(content, f"{name} in {dtype}")
    gap = rounding = 0.0
    with torch.no_grad():
        for batch in _with_one_sample(inputs):
            rounded = _converted(batch, dtype)
            exact, ours = call(given, batch), call(network, rounded)
            gap = _larger(gap, _relative(ours, session(rounded, len(ours))))
            rounding = _larger(rounding, _relative(exact, ours))
    return content, OnnxExport(
        Path(path),
        gap,
        rounding,
        tolerance,
        gap <= tolerance,
        str(dtype).removeprefix("torch."),
        session.inputs,
        session.outputs,
        len(proto.graph.node),
        int(proto.opset_import[0].version),
    )


def _converted(batch: Any, dtype: torch.dtype) -> Any:
    """Return a batch on the CPU with its floating-point tensors in a dtype."""
    return tree_map_only(
        Tensor, lambda leaf: leaf.detach().to("cpu", dtype if leaf.is_floating_point() else None), batch
    )


def _with_one_sample(inputs: Any) -> Iterator[Any]:
    """Yield the first sample alone, and then all batches."""
    yield tree_map_only(Tensor, lambda leaf: leaf[:1], first_batch(inputs))
    yield from iterate_inputs(inputs)


def _relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the largest difference of outputs relative to the largest entry; NaN where one is not finite."""
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        gap, scale = (
            float(each.cpu().double().abs().max()) for each in (one.cpu().double() - other.cpu().double(), one)
        )
        worst = _larger(worst, gap / scale if scale else gap)
    return worst


def _larger(one: float, other: float) -> float:
    """Return the larger number, NaN where there is one."""
    return max(one, other) if one == one and other == other else float("nan")
