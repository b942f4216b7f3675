"""Least squares with a constant over a stream of rows: a QR factor that is renewed block by block.

Normal equations square the condition of the features, so that collinearity of 1e-6 is lost in them to rounding; the
triangular factor of the rows themselves keeps it to 1e-14.
"""

from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["INTERPOLATES", "AffineFit", "StreamedFit"]

INTERPOLATES = "it has as many inputs as there are samples, and so passes through all of them whatever the layer does"
# A feature whose spread is this share of its mean is constant but for rounding.
_CONSTANT = 1e-14
# Directions of features in units of their spreads with singular values below rounding, as large as it may get after
# some layers, are dropped; and never any above the second number, since features of a short dtype say no more.
_RANK, _COARSEST = 20, 1e-6
# Rows that are taken in at a time, at least: a factorisation of few rows is mostly overhead.
_ROWS = 1024


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
class StreamedFit:
    """Least squares z ≈ Wh + b over pairs (h, z) that come block by block, and are not kept.

    Example:
        >>> fit, h = StreamedFit(), torch.randn(50, 2, dtype=torch.float64)
        >>> fit.add(h[:20], 3 * h[:20, :1] + 1)
        >>> fit.add(h[20:], 3 * h[20:, :1] + 1)
        >>> found = fit.result()
        >>> [round(abs(float(entry)), 9) for entry in (*found.weight[0], found.bias[0])]
        [3.0, 0.0, 1.0]
    """

    def __init__(self) -> None:
        self._count = self._inputs = self._filled = 0
        # Rows 1, h, z about a shift: those of the triangular factor first, then what has come since.
        self._rows = self._shift = torch.empty(0)
        self._finite, self._eps = True, torch.finfo(torch.float64).eps

    def add(
        self, h: Float[Tensor, "rows d"], z: Float[Tensor, "rows m"], eps: float = torch.finfo(torch.float64).eps
    ) -> None:
        """Take in some rows.

        Args:
            h: features, float64.
            z: what is to be explained, float64.
            eps: relative rounding with which the features were computed.
        """
        block = torch.cat([h, z], dim=1)
        self._finite = self._finite and bool(torch.isfinite(block).all())
        if not self._count:
            self._inputs = h.shape[1]
            # Without it a spread of 1e-8 of a mean would lose half its digits.
            self._shift = torch.nan_to_num(block.mean(dim=0))
            width = block.shape[1] + 1
            self._rows = block.new_zeros(width + max(width, _ROWS), width)
        self._count += len(block)
        self._eps = max(self._eps, eps)
        while len(block) and self._finite:
            part = block[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(part), 0] = 1
            self._rows[self._filled : self._filled + len(part), 1:] = part - self._shift
            self._filled += len(part)
            block = block[len(part) :]
            if self._filled == len(self._rows):
                self._reduce()

    def _reduce(self) -> None:
        """Replace the rows by their triangular factor."""
        width = self._rows.shape[1]
        if self._filled:
            reflections, _ = torch.geqrf(self._rows[: self._filled])
            self._filled = min(width, self._filled)
            self._rows[: self._filled] = reflections[: self._filled].triu_()
            self._rows[self._filled :] = 0

    def result(self, ridge: float = 0.0) -> AffineFit:
        """Return argmin Σ‖z − Wh − b‖² + ρ·(mean variance of a feature)·n‖W‖².

        Args:
            ridge: ρ.

        Returns:
            The fit; of smallest norm in features of unit variance where they are dependent.
        """
        self._reduce()
        d, n, width = self._inputs, self._count, self._rows.shape[1]
        # The first row holds √n times the means, the others what is left about them.
        factor = self._rows[1:width]
        H, HZ, Z = factor[:d, 1 : d + 1], factor[:d, d + 1 :], factor[d:, d + 1 :]
        total = float(HZ.square().sum() + Z.square().sum())
        spread = H.norm(dim=0)
        if not self._finite or not isfinite(total) or not bool(torch.isfinite(spread).all()):
            nothing = self._rows.new_full((width - 1 - d, d), nan)
            return AffineFit(nothing, nothing[:, 0], nan, nan)
        mean = self._shift + self._rows[0, 1:] / self._rows[0, 0]
        offset = n**0.5 * mean[:d].abs()
        constant = spread <= _CONSTANT * offset
        # In units of each feature's spread: a rank decided in theirs would drop nanometres beside metres.
        inverse = torch.where(constant, 0.0, 1 / torch.where(constant, 1.0, spread))
        penalty = (ridge * H.square().sum() / d).sqrt() * torch.eye(d).to(H)
        U, s, Vh = torch.linalg.svd(torch.cat([H, penalty]) * inverse if ridge else H * inverse, full_matrices=False)
        rounding = self._eps * (1 + float((offset * inverse).max()))
        kept = s > min(_RANK * d**0.5 * rounding, _COARSEST) * s[0].clamp_min(torch.finfo(s.dtype).tiny)
        back = inverse[:, None] * (Vh.mT[:, kept] / s[kept])
        weight = (back @ (U[:d, kept].mT @ HZ)).mT
        left = float((HZ - H @ weight.mT).square().sum() + Z.square().sum())
        r2 = 1 - left / total if total > 0 else nan
        freedom = float((H @ back).square().sum())
        return AffineFit(weight, mean[d:] - weight @ mean[:d], r2, self._adjusted(r2, freedom))

    def _adjusted(self, r2: float, freedom: float) -> float:
        """Return R² per degree of freedom that is left, NaN where none is."""
        left = self._count - 1 - freedom
        # Degrees of freedom are whole numbers but for rounding where there is no ridge.
        return 1 - (1 - r2) * (self._count - 1) / left if left > 0.5 else nan
