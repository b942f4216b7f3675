"""The spectral density by stochastic Lanczos quadrature, with intervals over the probes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape._random import as_generator
from liftscape._sketch import spectrum
from liftscape.curvature._basis import Basis
from liftscape.curvature._estimate import student_quantile
from liftscape.curvature._lanczos import extend, ritz, start
from liftscape.curvature._recorded import generator_digest
from liftscape.curvature._resolution import rounding_of
from liftscape.curvature._share import share_interval, share_of_probe
from liftscape.curvature._work import Progress, Work, standard_normal
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import LiftscapeError, Outcome

__all__ = ["SpectralDensity", "spectral_density"]


@final
@dataclass(frozen=True)
class SpectralDensity(Outcome):
    """Quadrature nodes and weights of vᵀf(H)v for random unit vectors v, whose mean over v is tr f(H) / M.

    Attributes:
        nodes: ascending for each probe, (probes, steps), float64; a probe that ended early has NaN behind its nodes.
        weights: positive, each probe's sum 1, 0 beside NaN.
        couplings: how each node hangs on the product that would come next, its residual with a sign, (probes, steps); 0
            of a probe that exhausted its space.
        lengths: ‖g‖² of the Gaussian vectors that v are the directions of, (probes,).
        size: M.
        rounding: by how much rounding may have moved the nodes.
        resolution: by how much rounding may have changed a sum of weights.
        lower: smallest node less its residual and the measured asymmetry: below it the probes saw no eigenvalue.
        upper: largest node plus both.
        products: how many products were taken.
        method: how.
    """

    nodes: Float[Tensor, "probes steps"]
    weights: Float[Tensor, "probes steps"]
    couplings: Float[Tensor, "probes steps"]
    lengths: Float[Tensor, " probes"]
    size: int
    rounding: float
    resolution: float
    lower: float
    upper: float
    products: int
    method: str

    def mean(self, function: Callable[[Tensor], Tensor], confidence: float = 0.99) -> tuple[float, float, float]:
        """Return the estimate of tr f(H) / M with its interval by Student's t over the probes.

        The variance over v is 2(tr f²/M − (tr f/M)²)/(M + 2). Where few eigenvalues make it, so that the probes' own
        spread is small where their mean is, what the nodes say of it is its least value. The interval is that of the
        random v: the quadrature is exact for polynomials of degree 2·steps − 1, and of other f its error is not in it.

        Args:
            function: f, entry by entry.
            confidence: of the interval.

        Returns:
            Value, lower end, upper end; the ends are infinite for one probe.
        """
        values = function(torch.where(self.weights > 0, self.nodes, 0.0))
        each = (values * self.weights).sum(dim=1)
        value, count = float(each.mean()), len(each)
        if count < 2:
            return value, -math.inf, math.inf
        reach = (
            max(float(each.std()), self._spread((values - value).abs()))
            / math.sqrt(count)
            * student_quantile(confidence, count)
        )
        return value, value - reach, value + reach

    def _spread(self, offsets: Tensor) -> float:
        """Return the standard deviation of vᵀf(H)v over v, less where its skewness is below 1, from |f − mean|."""
        squares, cubes = (float((offsets**power * self.weights).sum(dim=1).mean()) for power in (2, 3))
        if not squares > 0:
            return 0.0
        skewness = math.sqrt(8 / self.size) * cubes / squares**1.5
        return min(1.0, skewness) * math.sqrt(2 * squares / (self.size + 2))

    def mass_below(self, threshold: float, confidence: float = 0.99) -> tuple[float, float, float]:
        """Return the estimated share of eigenvalues below a threshold, with its interval.

        The mass that a probe has below t is known up to that of the Gauss-Radau node at t, and its law over the probes
        is a beta distribution, so that the interval covers for any number of probes and steps.

        Source: see :mod:`liftscape.curvature._share`.

        Args:
            threshold: t.
            confidence: of the interval.

        Returns:
            Value, lower end, upper end, the ends within [0, 1].

        Raises:
            LiftscapeError: if the confidence is not between 0 and 1.
        """
        student_quantile(confidence, 2)
        bounds = [
            share_of_probe(nodes[kept], weights[kept], couplings[kept], threshold, self.rounding)
            for nodes, weights, couplings in zip(self.nodes, self.weights, self.couplings, strict=True)
            for kept in [~nodes.isnan()]
        ]
        below, above = (torch.tensor(bounds, dtype=torch.float64).T @ self.lengths / self.lengths.sum()).tolist()
        low, high = share_interval(below - self.resolution, above + self.resolution, self.size, len(bounds), confidence)
        return min(high, max(low, (below + above) / 2)), low, high

    def evaluate(self, grid: Float[Tensor, " g"], width: float) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
        """Return the density smoothed by a Gaussian, ρ(x) = Σ w exp(−(x − θ)²/2s²)/(s√2π), with standard errors.

        Args:
            grid: x, (g,).
            width: s.

        Returns:
            Density and its standard error over the probes, NaN for one probe; both (g,), float64.
        """
        known = torch.where(self.weights > 0, self.nodes, 0.0)
        points = grid.to("cpu", torch.float64)
        each = torch.stack([
            torch.exp(-((points[:, None] - nodes) ** 2) / (2 * width**2)) @ weights / (width * math.sqrt(2 * math.pi))
            for nodes, weights in zip(known, self.weights, strict=True)
        ])
        error = each.std(dim=0) / math.sqrt(len(each)) if len(each) > 1 else torch.full_like(points, math.nan)
        return each.mean(dim=0), error

    def _figure(self) -> str:
        return spectrum(self.nodes.flatten().tolist(), "Ritz values of all probes")


def spectral_density(
    H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray",
    *,
    steps: int = 100,
    probes: int = 1,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> SpectralDensity:
    """Return the spectral density of H by stochastic Lanczos quadrature.

    vᵀf(H)v ≈ Σ_j ω_j² f(θ_j) with T s_j = θ_j s_j after `steps` Lanczos steps from v, ω_j = e₁ᵀs_j: exact for
    polynomials of degree 2·steps − 1, and without ghosts thanks to full reorthogonalisation.

    Source: Golub and Welsch 1969; Ubaru, Chen, Saad 2017.

    Args:
        H: (M, M), any symmetric operator: ours, a SciPy LinearOperator or a matrix.
        steps: products for each probe; the stored vectors are as many.
        probes: random vectors; the intervals need two or more.
        generator: draws the probes; seed 0 when None.
        progress: called with (products done, products in all).
        checkpoint: a folder in which products are recorded, so that the work resumes there after a kill; each run
            with it takes one product more, or two where the first differs, which tell whether H is the same.

    Returns:
        Nodes and weights of each probe.

    Raises:
        LiftscapeError: if steps or probes is not positive.
        NotFiniteError: if a product is not finite.

    Example:
        >>> density = spectral_density(torch.diag(torch.tensor([-1.0, 2.0, 2.0], dtype=torch.float64)), probes=2)
        >>> density.nodes.round(decimals=6).tolist()
        [[-1.0, 2.0], [-1.0, 2.0]]
    """
    operator = as_operator(H)
    if steps < 1 or probes < 1:
        raise LiftscapeError(f"a spectral density needs steps and probes ≥ 1, but {steps} and {probes} were given.")
    steps = min(steps, operator.size)
    generator = as_generator(generator)
    settings = {"work": "spectral density with couplings", "steps": steps, "seed": generator_digest(generator)}
    work = Work(operator, settings, None, steps * probes, progress, checkpoint)
    basis = Basis(steps + 1, operator.size, operator.dtype, operator.device)
    parts = [] if work.journal is None else work.journal.finished()
    lengths: list[float] = []
    for probe in range(probes):
        vector = standard_normal(1, operator, generator)
        lengths.append(float(vector.double().square().sum()))
        if probe < len(parts):
            work.skip(len(parts[probe][0]))
            continue
        parts.append(_quadrature(work, basis, vector, steps))
        if work.journal is not None:
            work.journal.finish(parts)
    nodes, weights, couplings, lows, highs, roundings = zip(*parts[:probes], strict=True)
    eps = torch.finfo(operator.dtype).eps
    return SpectralDensity(
        _rows(nodes, math.nan),
        _rows(weights, 0.0),
        _rows(couplings, 0.0),
        torch.tensor(lengths, dtype=torch.float64),
        operator.size,
        max(roundings),
        10 * eps * math.sqrt(max(map(len, nodes))),
        min(lows),
        max(highs),
        work.done,
        f"stochastic Lanczos quadrature, {steps} steps, {probes} probes, full reorthogonalisation",
    )


def _rows(lists: Sequence[list[float]], filling: float) -> Tensor:
    """Return lists as rows, filled behind the shorter ones."""
    longest = max(map(len, lists))
    return torch.tensor([each + [filling] * (longest - len(each)) for each in lists], dtype=torch.float64)


def _quadrature(
    work: Work, basis: Basis, vector: Tensor, steps: int
) -> tuple[list[float], list[float], list[float], float, float, float]:
    """Return nodes, weights and couplings, the ends of the support that one probe sees, and what rounding does."""
    basis.count = 0
    krylov = start(basis, vector)
    while krylov.processed < steps and krylov.pending:
        extend(krylov, work, [0])
    found = ritz(krylov)
    residuals = found.residuals + krylov.rounding
    couplings = found.couplings.sum(dim=0) * torch.where(found.vectors[0] < 0, -1.0, 1.0)
    return (
        (found.values / work.scale).tolist(),
        found.vectors[0].square().tolist(),
        (couplings / work.scale).tolist(),
        float(found.values[0] - residuals[0]) / work.scale,
        float(found.values[-1] + residuals[-1]) / work.scale,
        rounding_of(krylov, found.scale) / work.scale,
    )
