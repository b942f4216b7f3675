"""The best affine map from what reaches a layer to the next pre-activation, in one pass over the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import nn

from liftscape.forward import Affine, Observation, Pairs, copy_with, stream
from liftscape.linearity._least_squares import INTERPOLATES, AffineFit, StreamedFit
from liftscape.linearity._maps import made_from, rows_read, rows_written, stand_in
from liftscape.linearity._runs import Run
from liftscape.outcomes import LiftscapeError, SiteError

__all__ = ["INTERPOLATES", "AffineFit", "RunFits", "fit_runs", "replace_run"]

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
    (fits,) = stream(model, inputs, [RunFits.of(model, runs, ridge)])
    return fits


@final
@dataclass(frozen=True)
class RunFits:
    """The observer that fits an affine map to each run.

    Attributes:
        maps: the map without weights that may stand in for a run, by its first and last map.
        names: of the activations, likewise.
        ridge: as for :func:`fit_runs`.
    """

    maps: Mapping[tuple[str, str], Affine]
    names: Mapping[tuple[str, str], str]
    ridge: float = 0.0

    @staticmethod
    def of(model: nn.Module, runs: Sequence[Run], ridge: float = 0.0) -> "RunFits":
        """Return the observer of those runs that have a stand-in.

        Args:
            model: any module.
            runs: of that module.
            ridge: as for :func:`fit_runs`.

        Returns:
            The observer.

        Raises:
            LiftscapeError: if the ridge is negative or not finite.
        """
        if not isinstance(ridge, (int, float)) or not 0 <= ridge < inf:
            raise LiftscapeError(f"ridge must be a finite number of at least 0, but {ridge!r} was given.")
        maps = {(run.first, run.last): _stand_in(model, run) for run in runs}
        known = {pair: map_ for pair, map_ in maps.items() if not isinstance(map_, str)}
        return RunFits(known, {(run.first, run.last): run.activation for run in runs}, ridge)

    @property
    def place(self) -> Pairs:
        """What reaches the first map and leaves the last."""
        return Pairs(list(self.maps))

    def init(self) -> dict[tuple[str, str], StreamedFit]:
        """Return fits of nothing."""
        return {pair: StreamedFit() for pair in self.maps}

    def update(
        self, state: dict[tuple[str, str], StreamedFit], seen: Observation
    ) -> dict[tuple[str, str], StreamedFit]:
        """Add the rows of one call, of convolutions a few samples at a time."""
        map_ = self.maps[seen.pair]
        assert seen.output is not None
        size = len(seen.tensor) if isinstance(map_, nn.Linear) else _IMAGES
        for part, written in zip(seen.tensor.split(size), seen.output.split(size), strict=True):
            state[seen.pair].add(rows_read(map_, part), rows_written(map_, written), torch.finfo(part.dtype).eps)
        return state

    def result(self, state: dict[tuple[str, str], StreamedFit]) -> dict[str, AffineFit]:
        """Return the fits by the activation's name."""
        return {self.names[pair]: each.result(self.ridge) for pair, each in state.items()}


def replace_run(model: nn.Module, run: Run, fit: AffineFit, share: bool = False) -> nn.Module:
    """Return a copy of the model in which the affine map stands in for a run.

    Args:
        model: any module; it is left as it was.
        run: what is replaced.
        fit: the map.
        share: whether weights that stay are the model's own.

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
    return copy_with(model, {**{name: nn.Identity() for name in run.inner}, run.last: new}, share)


def _stand_in(model: nn.Module, run: Run) -> "Affine | str":
    """Return the map without weights that may replace a run, or why there is none."""
    return stand_in(model.get_submodule(run.first), model.get_submodule(run.last))
