"""Watching a training: linearity of the layers, gradient norm and extreme curvature, at a few products a record."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.linearity import LinearityRow, layer_linearity
from liftscape.outcomes import DataError, LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk, SymmetricOperator

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

    Four products with the Hessian a record: with the last record's two Ritz vectors and with their residuals, of which
    a Rayleigh-Ritz step takes the new ones. As the network moves slowly, they follow its extreme eigenvectors.

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

    def __init__(self, risk: EmpiricalRisk, *, probe: int = 128, generator: torch.Generator | None = None) -> None:
        if probe < 2:
            raise LiftscapeError(f"a monitor needs at least 2 samples, but probe is {probe}.")
        inputs, targets = next(iter(risk.batches))
        if not isinstance(inputs, Tensor):
            raise DataError(f"a monitor needs inputs that are one tensor, but {type(inputs).__name__} was given.")
        self._data = inputs[:probe], targets[:probe]
        self.risk = EmpiricalRisk(risk.model, risk.loss, self._data)
        draws = torch.Generator().manual_seed(0) if generator is None else generator
        self._vectors = torch.randn(self.risk.size, 2, generator=draws, dtype=torch.float64)
        self.readings: list[Reading] = []

    def record(self, step: int) -> Reading:
        """Read the model as it is now, and keep the reading.

        Args:
            step: of the training.

        Returns:
            The reading; NaN where the risk or its derivatives are not finite.
        """
        value, gradient = float(self.risk.value()), self.risk.gradient()
        # The affine maps would cost as much again.
        layers = layer_linearity(self.risk.model, self._data[0], affine_maps=False).rows
        ends = self._ends() if bool(torch.isfinite(gradient).all()) else ((float("nan"), float("inf")),) * 2
        (lowest, below), (highest, above) = ends
        reading = Reading(step, value, float(gradient.norm()), highest, above, lowest, below, layers)
        self.readings.append(reading)
        return reading

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return both ends with their residuals, and keep their vectors for the next record."""
        H = self.risk.hessian()
        H.prepare()
        first = _orthonormal(self._vectors.to(H.device, H.dtype))
        images = H @ first
        middle = first.T @ images
        # The residuals of the two vectors' own Ritz vectors.
        values, mixing = torch.linalg.eigh((middle + middle.T) / 2)
        residuals = images @ mixing - (first @ mixing) * values
        basis = _orthonormal(torch.cat([first, residuals], dim=1))
        images = torch.cat([images, H @ basis[:, 2:]], dim=1)
        return self._rayleigh_ritz(H, basis, images)

    def _rayleigh_ritz(self, H: SymmetricOperator, basis: Float[Tensor, "M m"], images: Float[Tensor, "M m"]) -> Any:
        """Return the extreme Ritz values of a space with their residuals."""
        middle = (basis.T @ images).double()
        values, mixing = torch.linalg.eigh((middle + middle.T) / 2)
        ends = mixing[:, [0, -1]].to(basis)
        self._vectors = (basis @ ends).cpu().double()
        residuals = (images @ ends - (basis @ ends) * values[[0, -1]].to(basis)).norm(dim=0).tolist()
        rounding = 10 * torch.finfo(H.dtype).eps * float(values.abs().max())
        return tuple((float(values[place]), residuals[end] + rounding) for end, place in enumerate((0, -1)))


def _orthonormal(columns: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
    """Return an orthonormal basis whose first columns span the first columns."""
    Q = torch.linalg.qr(columns)[0]
    return torch.linalg.qr(Q)[0]
