"""R_S(θ) as a pure function, with its gradient and its Hessian as an operator."""

from liftscape.risk._risk import EmpiricalRisk

__all__ = [
    "EmpiricalRisk",
]
