"""A random estimate with an interval that is right whatever the sign of the estimated value."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from liftscape.curvature._work import safe_power
from liftscape.outcomes import LiftscapeError, Outcome

__all__ = ["FEW", "Estimate", "estimate_of", "student_quantile"]

# From so many probes on their own spread is enough; fewer may agree by chance, as three signs do once in four times.
FEW = 30
# Rounding errors of a sum that the interval allows for; only seen where the probes have no variance of their own.
_ROUNDINGS = 10.0


@dataclass(frozen=True)
class Estimate(Outcome):
    """A random estimate of one number, with the evidence for it.

    Attributes:
        value: the estimate; unbiased.
        standard_error: s/√n over n independent probes; 0 where nothing random is left. Of a trace from fewer than 30
            probes the larger of s and √(2·mean ‖Hz‖²), which bounds the standard deviation of zᵀHz.
        interval: (low, high), which covers the true number with the stated confidence as far as the mean of the probes
            is normal: where one eigenvalue makes the whole trace, 99 % are 98 % for 100 probes, 96 % for 30.
        confidence: that probability.
        probes: the number n of independent probes that the standard error stands on.
        products: products with the operator in all.
        method: how the estimate was made.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    confidence: float
    probes: int
    products: int
    method: str


def student_quantile(confidence: float, probes: int) -> float:
    """Return t with P(|T| ≤ t) = confidence, T Student's with n − 1 degrees of freedom.

    Source: Student 1908, The probable error of a mean, Biometrika 6.

    Args:
        confidence: between 0 and 1.
        probes: the number n of independent values, at least 2.

    Returns:
        The half-width of the interval in standard errors.

    Raises:
        LiftscapeError: if the confidence is not between 0 and 1, or there are fewer than two probes.

    Example:
        >>> round(student_quantile(0.95, 10), 3)
        2.262
    """
    if not 0 < confidence < 1:
        raise LiftscapeError(f"confidence must be between 0 and 1, but {confidence} was given; 0.99 is usual.")
    if probes < 2:
        raise LiftscapeError(f"a standard error needs at least 2 probes, but {probes} was given; 100 are usual.")
    return float(stdtrit(probes - 1, (1 + confidence) / 2))


def estimate_of(
    samples: Float[Tensor, " n"],
    *,
    confidence: float,
    products: int,
    method: str,
    exact: float = 0.0,
    magnitude: float = 0.0,
    eps: float = 0.0,
    lengths: Float[Tensor, " n"] | None = None,
) -> Estimate:
    """Return the estimate e + mean(x) ± t·s/√n from n independent unbiased values x of what is left beside an exact e.

    The interval is Student's, absolute, and from a number of probes that was fixed beforehand: an estimate near zero
    or below it is as good as any other. It is widened by ten rounding errors of the sums that were taken.

    Fewer than 30 values x = zᵀHz can agree by chance, where H = [[0, 1], [1, 0]] even exactly. Their variance is
    2(‖H‖_F² − Σ H_ii²) ≤ 2 E‖Hz‖², so s is then at least √(2·mean ‖Hz‖²).

    Source: derived from Student 1908; the bound of s is derived.

    Args:
        samples: (n,), independent values of one expectation, n ≥ 2.
        confidence: between 0 and 1.
        products: products with the operator that were spent.
        method: how the values were made.
        exact: e, the part that is not random.
        magnitude: the mean over the probes of the sum of absolute terms, the scale of rounding.
        eps: the rounding of one operation with the operator.
        lengths: ‖Hz‖ of each probe, (n,), where x = zᵀHz; only looked at where the probes are few.

    Returns:
        The estimate; NaN throughout where a value is not finite.

    Example:
        >>> made = estimate_of(Tensor([-1.0, 1.0]), confidence=0.5, products=2, method="coin")
        >>> made.value, made.standard_error, round(made.interval[1], 12)
        (0.0, 1.0, 1.0)
    """
    count = len(samples)
    quantile = student_quantile(confidence, count)
    wide = samples.double()
    value = exact + float(wide.mean())
    known = None if lengths is None or count >= FEW else lengths.double()
    power = safe_power(wide if known is None else torch.cat([wide, known])) or 1.0
    spread = float((wide * power).std())
    if known is not None:
        spread = max(spread, math.sqrt(2 * float((known * power).square().mean())))
    error = spread / power / math.sqrt(count)
    half = quantile * error + _ROUNDINGS * eps * magnitude
    if not (math.isfinite(value) and math.isfinite(half)):
        value = error = half = math.nan
    return Estimate(value, error, (value - half, value + half), confidence, count, products, method)
