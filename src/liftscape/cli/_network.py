"""What lift and fold share: how far two networks' outputs differ on the data, and saving without loss."""

from pathlib import Path

from torch import nn

from liftscape.cli._print import interrupted_as
from liftscape.folding import output_gap
from liftscape.integrations.onnx_files import check_onnx, write_onnx
from liftscape.outcomes import LoadError
from liftscape.samples import Batches
from liftscape.storage import RECIPE, WEIGHTS, check_destination, save

__all__ = ["check_places", "relative_gap", "save_network"]


def relative_gap(first: nn.Module, second: nn.Module, data: Batches) -> float:
    """Return the largest difference of two networks' outputs on the data, relative to the first's largest output.

    Args:
        first: a network.
        second: another one.
        data: the batches.

    Returns:
        max |f₁ − f₂| / max |f₁| over all samples and outputs.
    """
    gap, largest = output_gap(first, second, data)
    return gap / largest if largest else gap


def check_places(out: Path, onnx: Path | None) -> None:
    """Raise before any work if the files could not be written.

    Args:
        out: the folder or the .safetensors file.
        onnx: an ONNX file, or None.

    Raises:
        LoadError: if one of them is no such place, or both are one.
    """
    check_destination(out)
    if onnx is None:
        return
    if onnx.resolve() in {out.resolve(), (out / WEIGHTS).resolve(), (out / RECIPE).resolve()}:
        raise LoadError(f"--onnx {onnx} would overwrite what --out {out} writes; name another file.")
    check_onnx(onnx)


def save_network(
    base: nn.Module, model: nn.Module, out: Path, force: bool, onnx: tuple[Path, bytes] | None = None
) -> None:
    """Save a network with the recipe that makes it from its base.

    Args:
        base: the network of the user's function.
        model: the network made from it.
        out: the folder, or the .safetensors file.
        force: whether another network there may be overwritten.
        onnx: an ONNX file and its content.

    Raises:
        LoadError: if a file holds another network and may not be overwritten.
    """
    if onnx is not None and not force and onnx[0].exists() and onnx[0].read_bytes() != onnx[1]:
        raise LoadError(f"{onnx[0]} already holds another network; name another file or force it.")
    with interrupted_as(f"{out} is as it was, or holds the new network whole"):
        save(model, out, base=base, overwrite=force)
    if onnx is None:
        return
    with interrupted_as(f"{out} was written"):
        write_onnx(*onnx, overwrite=force)
