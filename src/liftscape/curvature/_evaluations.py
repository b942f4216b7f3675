"""Values of the risk at many points, in a folder where they survive a kill."""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._record_file import RecordFile
from liftscape.curvature._sealed import claim, same_to_rounding, seal
from liftscape.curvature._work import Progress
from liftscape.outcomes import LoadError
from liftscape.risk import EmpiricalRisk

__all__ = ["evaluate"]

_VALUES = "values.bin"
_BYTES = 8


def evaluate(
    risk: EmpiricalRisk,
    points: Iterable[Float[Tensor, " M"]],
    count: int,
    identity: list[Tensor],
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Float[Tensor, " count"]:
    """Return R at points that are made as they are needed.

    Args:
        risk: R.
        points: θ as vectors, in a fixed order.
        count: how many.
        identity: what tells these points from others: center, directions, grid.
        progress: called with (points done, points in all).
        checkpoint: a folder in which values are recorded, so that the work resumes there after a kill.

    Returns:
        The values, float64 on the CPU, NaN and inf as they came.

    Raises:
        LoadError: if the folder holds the values of other points, or is damaged.
    """
    record = None if checkpoint is None else _open(Path(checkpoint), risk, identity)
    values = torch.empty(count, dtype=torch.float64)
    for index, theta in enumerate(points):
        place = index.to_bytes(_BYTES, "little")
        known = None if record is None else record.take(place, _BYTES)
        if known is None:
            values[index] = risk.value(risk.unflatten(theta))
            if record is not None:
                record.append(place, struct.pack("<d", float(values[index])))
        else:
            values[index] = struct.unpack("<d", known)[0]
        if progress is not None:
            progress(index + 1, count)
    return values


def _open(folder: Path, risk: EmpiricalRisk, identity: list[Tensor]) -> RecordFile:
    """Claim the folder for these points, and return the record of their values."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in identity:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    points, value = digest.hexdigest(), float(risk.value())
    kept = claim(folder, {"points": points, "value": value})
    # The value here tells other data or another loss; below eps² it is what rounding left of a zero.
    eps = torch.finfo(identity[0].dtype).eps
    if kept.get("points") != points or not same_to_rounding([value, eps], [kept["value"], eps], identity[0].dtype):
        raise LoadError(
            f"{folder} is a checkpoint of other work, with other points or other data; name another folder."
        )
    return RecordFile(folder / _VALUES, seal(kept))
