"""Values of the risk at many points, in a folder where they survive a kill."""

import hashlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._files import write_atomically
from liftscape.curvature._work import Progress
from liftscape.outcomes import LoadError
from liftscape.risk import EmpiricalRisk

__all__ = ["evaluate"]

_WORK, _VALUES = "work.json", "values.bin"
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
        LoadError: if the folder holds the values of other points.
    """
    known = [] if checkpoint is None else _open(Path(checkpoint), risk, identity)
    values = torch.empty(count, dtype=torch.float64)
    for index, theta in enumerate(points):
        if index < len(known):
            values[index] = known[index]
        else:
            values[index] = risk.value(risk.unflatten(theta))
            if checkpoint is not None:
                with (Path(checkpoint) / _VALUES).open("ab") as file:
                    file.write(struct.pack("<d", float(values[index])))
        if progress is not None:
            progress(index + 1, count)
    return values


def _open(folder: Path, risk: EmpiricalRisk, identity: list[Tensor]) -> list[float]:
    """Claim the folder for these points, and return the whole values that it holds."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in identity:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    # The value here tells other data or another loss.
    mark = {"points": digest.hexdigest(), "value": repr(float(risk.value()))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(f"{folder} cannot be a folder for a checkpoint ({error.strerror}); name another.") from error
    path = folder / _WORK
    if not path.exists():
        write_atomically(path, json.dumps(mark, indent=2).encode("utf-8"))
    elif json.loads(path.read_text(encoding="utf-8")) != mark:
        raise LoadError(
            f"{folder} is a checkpoint of other work, with other points or other data; name another folder."
        )
    record = folder / _VALUES
    content = record.read_bytes() if record.exists() else b""
    whole = len(content) // _BYTES
    if len(content) % _BYTES:
        with record.open("r+b") as file:
            file.truncate(whole * _BYTES)
    return list(struct.unpack(f"<{whole}d", content[: whole * _BYTES]))
