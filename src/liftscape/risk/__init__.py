"""R_S(θ) as a pure function, with its gradient and its Hessian as an operator."""

from liftscape.risk._required import require_risk
from liftscape.risk._risk import EmpiricalRisk
from liftscape.risk._several import values_of

__all__ = [
    "EmpiricalRisk",
    "require_risk",
    "values_of",
]
