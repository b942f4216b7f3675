"""The best affine map from what reaches a layer to the next pre-activation, by streaming normal equations."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.linearity._maps import made_from, rows_read, rows_written, stand_in
from liftscape.linearity._runs import Run
from liftscape.outcomes import LiftscapeError, SiteError
from liftscape.sites import Affine, copy_with, hearing_pairs, run_batches

__all__ = ["INTERPOLATES", "AffineFit", "fit_runs", "fitting", "replace_run"]

# Directions of the features, each taken in units of its spread, with less than this share of the largest variance are
# not told from rounding; nor is a feature whose spread is this share of its mean.
_RANK = 1e-12
_ROUNDING = 1e-14
INTERPOLATES = "it has as many inputs as there are samples, and so passes through all of them whatever the layer does"
# Patches of so many samples are made at a time: those of a 3 × 3 convolution are nine copies of its features.
_IMAGES = 256


@final
@dataclass(frozen=True)
class AffineFit:
    """The least-squares map ẑ = Ŵh + b̂ over all samples.

    Attributes:
        weight: Ŵ, (m, d), of smallest norm in features of unit variance where they are dependent.
        bias: b̂, (m,).
        r2: 1 − Σ‖z − ẑ‖² / Σ‖z − z̄‖²; NaN where z is constant, and throughout where features are not finite.
        adjusted_r2: 1 − (1 − R²)(n − 1)/(n − 1 − p), p the degrees of freedom of the fit, the rank of the features
            without a ridge; NaN where n − 1 ≤ p: the map then passes through all rows, whatever the layer does.
    """

    weight: Float[Tensor, "m d"]
    bias: Float[Tensor, " m"]
    r2: float
    adjusted_r2: float

    @property
    def interpolates(self) -> bool:
        """Whether the map passes through all rows because there are so few, which says nothing of the layer."""
        return not isnan(self.r2) and isnan(self.adjusted_r2)

    def explanation(self) -> str:
        """Return one sentence of what the map explains."""
        explains = f"the affine map that fits best explains {self.r2:.6f} of the variance of the next pre-activation"
        return f"{explains}; {INTERPOLATES}." if self.interpolates else f"{explains}."


@final
class _Moments:
    """Means and covariances of pairs (h, z), updated block by block about the running mean."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.empty(0)
        self._inputs = 0

    def add(self, h: Float[Tensor, "rows d"], z: Float[Tensor, "rows m"]) -> None:
        """Take in some rows."""
        rows = torch.cat([h, z], dim=1)
        count, mean = len(rows), rows.mean(dim=0)
        squares = (rows - mean).T @ (rows - mean)
        if not self._count:
            self._inputs, self._mean, self._squares = h.shape[1], mean, squares
        else:
            shift = mean - self._mean
            share = self._count * count / (self._count + count)
            self._squares = self._squares + squares + share * torch.outer(shift, shift)
            self._mean = self._mean + shift * (count / (self._count + count))
        self._count += count

    def fit(self, ridge: float) -> AffineFit:
        """Solve the normal equations (Σ_hh + ρ tr(Σ_hh)/d · I) Ŵᵀ = Σ_hz."""
        d = self._inputs
        hh, hz, zz = self._squares[:d, :d], self._squares[:d, d:], self._squares[d:, d:].diagonal()
        if not bool(torch.isfinite(self._squares).all()):
            nothing = self._squares.new_full((len(zz), d), float("nan"))
            return AffineFit(nothing, nothing[:, 0], nan, nan)
        damped = hh + ridge * hh.diagonal().mean() * torch.eye(d).to(hh)
        # In units of each feature's own spread: a rank decided in theirs would drop nanometres beside metres.
        spread = hh.diagonal().clamp_min(0).sqrt()
        constant = spread <= _ROUNDING * self._count**0.5 * self._mean[:d].abs()
        inverse = torch.where(constant, 0.0, 1 / torch.where(constant, 1.0, spread))
        scaled = inverse[:, None] * damped * inverse
        solving = torch.linalg.pinv(scaled, rtol=_RANK, hermitian=True)
        weight = (inverse[:, None] * (solving @ (inverse[:, None] * hz))).T
        left = zz - 2 * (weight * hz.T).sum(dim=1) + ((weight @ hh) * weight).sum(dim=1)
        total = float(zz.sum())
        r2 = 1 - float(left.clamp_min(0).sum()) / total if total > 0 else nan
        freedom = float((solving * (inverse[:, None] * hh * inverse)).sum())
        return AffineFit(weight, self._mean[d:] - weight @ self._mean[:d], r2, self._adjusted(r2, freedom))

    def _adjusted(self, r2: float, freedom: float) -> float:
        """Return R² per degree of freedom that is left, NaN where none is."""
        left = self._count - 1 - freedom
        # Degrees of freedom are whole numbers but for rounding where there is no ridge.
        return 1 - (1 - r2) * (self._count - 1) / left if left > 0.5 else nan


def fit_runs(
    model: nn.Module, runs: "tuple[Run, ...] | list[Run]", inputs: Any, ridge: float = 0.0
) -> dict[str, AffineFit]:
    """Return for each map · activation · map the affine map that stands in for it best, in one pass.

    Of two convolutions it is a convolution, and its features are the patches that it reads. With a ridge ρ it is
    argmin Σ‖z − Wh − b‖² + ρ·(mean variance of a feature)·n‖W‖². Memory is (d + m)² float64 numbers a run, whatever the
    number of samples.

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
    moments = {(run.first, run.last): _Moments() for run in runs if not isinstance(maps[run.first, run.last], str)}
    names = {(run.first, run.last): run.activation for run in runs}

    def receive(pair: tuple[str, str], h: Tensor, z: Tensor) -> None:
        map_ = maps[pair]
        assert not isinstance(map_, str)
        size = len(h) if isinstance(map_, nn.Linear) else _IMAGES
        for part, written in zip(h.split(size), z.split(size), strict=True):
            moments[pair].add(rows_read(map_, part), rows_written(map_, written))

    def result() -> dict[str, AffineFit]:
        return {names[pair]: each.fit(ridge) for pair, each in moments.items()}

    with hearing_pairs(model, list(moments), receive):
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
