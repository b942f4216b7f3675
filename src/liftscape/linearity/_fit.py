"""The best affine map from what reaches a layer to the next pre-activation, in one pass over the data."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.linearity._least_squares import INTERPOLATES, AffineFit, StreamedFit
from liftscape.linearity._maps import made_from, rows_read, rows_written, stand_in
from liftscape.linearity._runs import Run
from liftscape.outcomes import LiftscapeError, SiteError
from liftscape.sites import Affine, copy_with, hearing_pairs, run_batches

__all__ = ["INTERPOLATES", "AffineFit", "fit_runs", "fitting", "replace_run"]

# Patches of so many samples are made at a time: those of a 3 × 3 convolution are nine copies of its features.
_IMAGES = 256


def fit_runs(
    model: nn.Module, runs: "tuple[Run, ...] | list[Run]", inputs: Any, ridge: float = 0.0
) -> dict[str, AffineFit]:
    """Return for each map · activation · map the affine map that stands in for it best, in one pass.

    Of two convolutions it is a convolution, and its features are the patches that it reads. With a ridge ρ it is
    argmin Σ‖z − Wh − b‖² + ρ·(mean variance of a feature)·n‖W‖². Memory is about 4(d + m + 1)² float64 numbers a run,
    whatever the number of samples.

    Source: theory 4 and 5.

    Args:
        model: any module; it is left as it was.
        runs: of that module; those without a stand-in are left out.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        ridge: ρ, relative to the features' variance; at least 0.

    Returns:
        Fits by the activation's name.

    Raises:
        LiftscapeError: if the ridge is negative or not finite.
    """
    if not isinstance(ridge, (int, float)) or not 0 <= ridge < inf:
        raise LiftscapeError(f"ridge must be a finite number of at least 0, but {ridge!r} was given.")
    with fitting(model, runs, ridge) as result:
        run_batches(model, inputs)
    return result()


@contextmanager
def fitting(
    model: nn.Module, runs: "tuple[Run, ...] | list[Run]", ridge: float = 0.0
) -> Generator[Callable[[], dict[str, AffineFit]]]:
    """Fit affine maps to runs from all that passes through the model while the context lasts.

    Args:
        model: any module.
        runs: of that module; those without a stand-in are left out.
        ridge: as for :func:`fit_runs`.

    Yields:
        What returns the fits.
    """
    maps = {(run.first, run.last): _stand_in(model, run) for run in runs}
    fits = {(run.first, run.last): StreamedFit() for run in runs if not isinstance(maps[run.first, run.last], str)}
    names = {(run.first, run.last): run.activation for run in runs}

    def receive(pair: tuple[str, str], h: Tensor, z: Tensor) -> None:
        map_ = maps[pair]
        assert not isinstance(map_, str)
        size = len(h) if isinstance(map_, nn.Linear) else _IMAGES
        for part, written in zip(h.split(size), z.split(size), strict=True):
            fits[pair].add(rows_read(map_, part), rows_written(map_, written), torch.finfo(part.dtype).eps)

    def result() -> dict[str, AffineFit]:
        return {names[pair]: each.result(ridge) for pair, each in fits.items()}

    with hearing_pairs(model, list(fits), receive):
        yield result


def replace_run(model: nn.Module, run: Run, fit: AffineFit) -> nn.Module:
    """Return a copy of the model in which the affine map stands in for a run.

    Args:
        model: any module; it is left as it was.
        run: what is replaced.
        fit: the map.

    Returns:
        The copy.

    Raises:
        SiteError: if the activation is a call, which no module can stand in for.
    """
    if run.is_call:
        raise SiteError(f"'{run.activation}' is a call; replace it in the network that foldable returns for this one.")
    map_ = _stand_in(model, run)
    assert not isinstance(map_, str)
    maps = [model.get_submodule(name) for name in (run.first, run.last)]
    new = made_from(map_, fit.weight, fit.bias, next(maps[1].parameters()))
    new.requires_grad_(any(tensor.requires_grad for each in maps for tensor in each.parameters()))
    return copy_with(model, {**{name: nn.Identity() for name in run.inner}, run.last: new})


def _stand_in(model: nn.Module, run: Run) -> "Affine | str":
    """Return the map without weights that may replace a run, or why there is none."""
    return stand_in(model.get_submodule(run.first), model.get_submodule(run.last))
