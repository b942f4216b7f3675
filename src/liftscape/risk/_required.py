"""The sentence of a verb that needs a risk and was given something else."""

from torch import nn

from liftscape.outcomes import LiftscapeError
from liftscape.risk._risk import EmpiricalRisk

__all__ = ["require_risk"]


def require_risk(risk: object, verb: str) -> EmpiricalRisk:
    """Return the risk, or raise.

    Args:
        risk: what was given as one.
        verb: name of the function that was called.

    Returns:
        The same.

    Raises:
        LiftscapeError: if it is not an :class:`~liftscape.EmpiricalRisk`.

    Example:
        >>> require_risk(None, "certify")
        Traceback (most recent call last):
        liftscape.outcomes.LiftscapeError: certify needs a risk, but NoneType was given; give EmpiricalRisk(model, ...
    """
    if isinstance(risk, EmpiricalRisk):
        return risk
    model = risk if isinstance(risk, nn.Module) else getattr(risk, "model", None)
    hint = "with this model" if isinstance(model, nn.Module) else "which holds a model with its loss and data"
    raise LiftscapeError(
        f"{verb} needs a risk, but {type(risk).__name__} was given; give EmpiricalRisk(model, loss, data) {hint}."
    )
