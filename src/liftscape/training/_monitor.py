"""Watching a training: linearity of the layers, gradient norm and extreme curvature, at a few products a record."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from liftscape.curvature import Basis, Hessian
from liftscape.linearity import LinearityRow, layer_linearity
from liftscape.outcomes import DataError, LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["Monitor", "Reading"]


@final
@dataclass(frozen=True)
class Reading(Outcome):
    """What a monitor saw before one step.

    Attributes:
        step: as it was given.
        value: R on the probe.
        gradient_norm: ‖∇R‖ on the probe.
        highest: the largest Ritz value; the largest eigenvalue is not below it.
        highest_bound: an eigenvalue lies within this of it.
        lowest: the smallest Ritz value; the smallest eigenvalue is not above it.
        lowest_bound: an eigenvalue lies within this of it.
        layers: how linear each activation is on the probe, without the affine maps that fit best.
    """

    step: int
    value: float
    gradient_norm: float
    highest: float
    highest_bound: float
    lowest: float
    lowest_bound: float
    layers: tuple[LinearityRow, ...]


@final
class Monitor:
    """Records of a model that is being trained; it is read, never changed, and nothing is drawn from torch's generator.

    Four products with the Hessian a record, taken at once: with the last record's two Ritz vectors and with the
    residuals that they had then, of which a Rayleigh-Ritz step takes the new ones. As the network moves slowly, they
    follow its extreme eigenvectors.

    Source: Knyazev 2001, SIAM J. Sci. Comput. 23, for the Rayleigh-Ritz step on vectors and residuals.

    Args:
        risk: of the model that is trained.
        probe: so many samples of the first batch are looked at, which bounds the cost.
        generator: draws the first vectors; seed 0 when None.

    Raises:
        LiftscapeError: if the probe is not at least 2.

    Example:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
        >>> monitor = Monitor(EmpiricalRisk(model, "mse", (x, x)))
        >>> [monitor.record(step).step for step in (0, 100)], len(monitor.readings)
        ([0, 100], 2)
    """

    def __init__(self, risk: EmpiricalRisk, *, probe: int = 64, generator: torch.Generator | None = None) -> None:
        if probe < 2:
            raise LiftscapeError(f"a monitor needs at least 2 samples, but probe is {probe}.")
        inputs, targets = next(iter(risk.batches))
        if not isinstance(inputs, Tensor):
            raise DataError(f"a monitor needs inputs that are one tensor, but {type(inputs).__name__} was given.")
        self._data = inputs[:probe], targets[:probe]
        self.risk = EmpiricalRisk(risk.model, risk.loss, self._data)
        draws = torch.Generator().manual_seed(0) if generator is None else generator
        self._vectors = torch.randn(4, self.risk.size, generator=draws, dtype=torch.float64)
        self.readings: list[Reading] = []

    def record(self, step: int) -> Reading:
        """Read the model as it is now, and keep the reading.

        Args:
            step: of the training.

        Returns:
            The reading; NaN where the risk or its derivatives are not finite.
        """
        H = self.risk.hessian()
        value, gradient = H.value_and_gradient()
        # The affine maps would cost as much again.
        layers = layer_linearity(self.risk.model, self._data[0], affine_maps=False).rows
        unknown = (float("nan"), float("inf"))
        (lowest, below), (highest, above) = self._ends(H) if _finite(gradient) else (unknown, unknown)
        reading = Reading(step, float(value), float(gradient.norm()), highest, above, lowest, below, layers)
        self.readings.append(reading)
        return reading

    def _ends(self, H: Hessian) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return both ends with their residuals, and keep their vectors for the next record."""
        basis = Basis(len(self._vectors), H.size, H.dtype, H.device)
        basis.append(self._vectors.to(H.device, H.dtype), scale=1.0)
        images = (H @ basis.rows.T).T
        middle = (basis.rows @ images.T).double()
        values, mixing = torch.linalg.eigh((middle + middle.T) / 2)
        ends, values = mixing.T[[0, -1]].to(images), values[[0, -1]]
        vectors = ends @ basis.rows
        residuals = ends @ images - values.to(images)[:, None] * vectors
        left = residuals.norm(dim=1).tolist()
        # The images of the new vectors are known, and so are their residuals: the next record starts from both.
        lengths = residuals.norm(dim=1, keepdim=True).clamp_min(torch.finfo(images.dtype).tiny)
        self._vectors = torch.cat([vectors, residuals / lengths]).double().cpu()
        rounding = 10 * torch.finfo(H.dtype).eps * float(values.abs().max())
        lowest, highest = ((float(value), residual + rounding) for value, residual in zip(values, left, strict=True))
        return lowest, highest


def _finite(tensor: Tensor) -> bool:
    """Tell whether all entries are finite."""
    return bool(torch.isfinite(tensor).all())
