"""Watching a training: linearity of the layers, gradient norm and extreme curvature, at a few products a record."""

from contextlib import suppress
from dataclasses import dataclass
from math import inf, nan
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from liftscape._random import as_generator
from liftscape.curvature import Basis, Hessian, eigenpairs
from liftscape.derivatives import slice_batch
from liftscape.forward import observing
from liftscape.functional import untouched
from liftscape.linearity import LinearityRow, PieceMoments, rows_of
from liftscape.operators import all_finite
from liftscape.outcomes import LiftscapeError, NotFiniteError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Monitor", "Reading"]


# A Cholesky factor with a smaller diagonal would lose digits that a basis built row by row keeps.
_INDEPENDENT = 0.1
# Tiny entries are put to zero every so many records, long before they have shrunk to denormal numbers.
_DUSTED = 4
# Of a search, relative to the largest |value|: signs and sizes are meant, not digits.
_TOLERANCE = 1e-3
# A value, how far the end may lie beyond it, and what it is.
_End = tuple[float, float, str]
_UNKNOWN: _End = (nan, inf, "not finite")


@final
@dataclass(frozen=True)
class Reading(Outcome):
    """What a monitor saw before one step.

    Attributes:
        step: as it was given.
        value: R on the probe.
        gradient_norm: ‖∇R‖ on the probe.
        highest: a Ritz value; the largest eigenvalue is not below it by more than rounding.
        highest_bound: the largest eigenvalue is not above it by more than this; inf where that was not looked for.
        highest_status: "converged" where it was and is the largest eigenvalue within its bound but for a chance of
            1e-3, else "lower bound"; "not finite" where the curvature is not.
        lowest: a Ritz value; the smallest eigenvalue is not above it by more than rounding.
        lowest_bound: the smallest eigenvalue is not below it by more than this; inf where that was not looked for.
        lowest_status: "converged", "upper bound" or "not finite", likewise.
        layers: how linear each activation is on the probe, without the affine maps that fit best.
    """

    step: int
    value: float
    gradient_norm: float
    highest: float
    highest_bound: float
    highest_status: str
    lowest: float
    lowest_bound: float
    lowest_status: str
    layers: tuple[LinearityRow, ...]


@final
class Monitor:
    """Records of a model that is being trained; it is read, never changed, and nothing is drawn from torch's generator.

    Four products with the Hessian a record, taken at once: with the last record's two Ritz vectors and with the
    residuals that they had then, of which a Rayleigh-Ritz step takes the new ones. As the network moves slowly, they
    follow its extreme eigenvectors. What they give bounds the ends of the spectrum from within, and nothing tells by
    how much it misses them: that takes a search, of some 40 products, which is made where it is asked for. Where the
    model moves to another device or dtype, the probe follows.

    Source: Knyazev 2001, SIAM J. Sci. Comput. 23, for the Rayleigh-Ritz step on vectors and residuals.

    Args:
        risk: of the model that is trained.
        probe: so many samples of the first batch are looked at, which bounds the cost; 32 keep a record near a tenth of
            a hundred training steps even of small networks.
        search_every: how many records apart, from the first on, the ends are searched until they are verified; never
            when None.
        generator: draws the first vectors; seed 0 when None.

    Raises:
        LiftscapeError: if the probe is not at least 2, or search_every not at least 1.

    Example:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
        >>> monitor = Monitor(EmpiricalRisk(model, "mse", (x, x)))
        >>> [monitor.record(step).step for step in (0, 100)], len(monitor.readings)
        ([0, 100], 2)
    """

    def __init__(
        self,
        risk: EmpiricalRisk,
        *,
        probe: int = 32,
        search_every: int | None = None,
        generator: torch.Generator | int | None = None,
    ) -> None:
        require_risk(risk, "Monitor")
        if probe < 2:
            raise LiftscapeError(f"a monitor needs at least 2 samples, but probe is {probe}.")
        if search_every is not None and search_every < 1:
            raise LiftscapeError(f"search_every must be at least 1 or None, but {search_every} was given.")
        self._search_every = search_every
        # A loader that shuffles draws from the generator that the training draws from.
        with untouched(risk.model):
            self._data = slice_batch(next(iter(risk.batches)), 0, probe)
            self.risk = EmpiricalRisk(risk.model, risk.loss, [self._data])
        draws = as_generator(generator)
        self._vectors = torch.randn(4, self.risk.size, generator=draws, dtype=torch.float64)
        self._modules: list[str] | None = None
        self.readings: list[Reading] = []

    def record(self, step: int) -> Reading:
        """Read the model as it is now, and keep the reading.

        Args:
            step: of the training.

        Returns:
            The reading; NaN where the risk or its derivatives are not finite.
        """
        # A module may count its calls and anneal by them: what the training sees is the count without the records.
        with untouched(self.risk.model):
            reading = self._read(step)
        self.readings.append(reading)
        return reading

    def _read(self, step: int) -> Reading:
        """Return a reading of the model as it is now."""
        self._follow()
        H = self.risk.hessian()
        # The forward pass of the gradient is one over the probe as well.
        with observing(self.risk.model, [PieceMoments.of(self.risk.model, self._modules)]) as results:
            value, gradient = H.value_and_gradient()
        layers = rows_of(results()[0].occupancies())
        # Listening for functions costs a tenth of a small record, and is of no use where the first one heard none.
        if self._modules is None and {row.name for row in layers} <= dict(self.risk.model.named_modules()).keys():
            self._modules = [row.name for row in layers]
        ends = (_UNKNOWN, _UNKNOWN)
        # Where products are not finite the reading says so.
        with suppress(NotFiniteError):
            if all_finite(gradient):
                ends = self._searched(H, *self._ends(H))
        lowest, highest = ends
        return Reading(step, float(value), float(gradient.norm()), *highest, *lowest, layers)

    def _follow(self) -> None:
        """Take the probe to where the model has moved, as a trainer moves it to another device or dtype."""
        batch, like = next(iter(self.risk.batches)), next(self.risk.model.parameters())
        fits = lambda tensor: (
            tensor.device == like.device and (not tensor.is_floating_point() or tensor.dtype == like.dtype)
        )
        if all(fits(leaf) for leaf in tree_leaves(batch[0]) if isinstance(leaf, Tensor)):
            return
        move = lambda tensor: tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)
        self.risk = EmpiricalRisk(self.risk.model, self.risk.loss, [tree_map_only(Tensor, move, self._data)])

    def _ends(self, H: Hessian) -> tuple[_End, _End]:
        """Return bounds of both ends from within, and keep their vectors for the next record."""
        basis = _orthonormal(self._vectors.to(H.device, H.dtype))
        images = (H @ basis.T).T
        middle = (basis @ images.T).double()
        values, mixing = torch.linalg.eigh((middle + middle.T) / 2)
        ends, values = mixing.T[[0, -1]].to(images), values[[0, -1]]
        vectors = ends @ basis
        residuals = ends @ images - values.to(images)[:, None] * vectors
        lengths = residuals.norm(dim=1, keepdim=True)
        # The images of the new vectors are known, and so are their residuals: the next record starts from both.
        kept = torch.cat([vectors, residuals / lengths.clamp_min(torch.finfo(images.dtype).tiny)])
        self._vectors = kept if len(self.readings) % _DUSTED else _without_dust(kept)
        return (float(values[0]), inf, "upper bound"), (float(values[-1]), inf, "lower bound")

    def _searched(self, H: Hessian, lowest: _End, highest: _End) -> tuple[_End, _End]:
        """Return both ends as a search finds them, where it is due and they are verified."""
        if self._search_every is None or len(self.readings) % self._search_every or H.size < 2:
            return lowest, highest
        found = eigenpairs(
            H, 1, which="both", tolerance=_TOLERANCE, generator=torch.Generator().manual_seed(len(self.readings))
        )
        self._vectors = torch.cat([found.vectors.T, self._vectors[2:].to(found.vectors)])
        reach = [
            max(residual, found.resolution[end])
            for residual, end in zip(found.residuals.tolist(), ("smallest", "largest"), strict=True)
        ]
        if found.status["smallest"] == "converged":
            lowest = (float(found.values[0]), reach[0], "converged")
        if found.status["largest"] == "converged":
            highest = (float(found.values[1]), reach[1], "converged")
        return lowest, highest


def _orthonormal(rows: Float[Tensor, "k M"]) -> Float[Tensor, "m M"]:
    """Orthonormalise rows that are nearly so, by the Cholesky factor of their products; drop dependent ones."""
    gram = (rows @ rows.T).double()
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed) or float(factor.diagonal().min()) < _INDEPENDENT * float(factor.diagonal().max()):
        basis = Basis(len(rows), rows.shape[1], rows.dtype, rows.device)
        basis.append(rows, scale=float(gram.diagonal().max()) ** 0.5)
        return basis.rows
    return torch.linalg.solve_triangular(factor, torch.eye(len(rows)).to(factor), upper=False).to(rows) @ rows


def _without_dust(rows: Float[Tensor, "k M"]) -> Float[Tensor, "k M"]:
    """Put entries to zero that are below the square of rounding."""
    # Where neurons are dead, entries shrink from record to record until they are denormal numbers, with which a
    # processor is slow: products took twice as long.
    sizes = rows.abs()
    return rows * (sizes > torch.finfo(rows.dtype).eps ** 2 * sizes.amax(dim=1, keepdim=True))
