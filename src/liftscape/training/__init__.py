"""Training: many networks at once, one that is watched, and one that grows where it is stuck."""

from liftscape.training._carry import carry_over
from liftscape.training._ensemble import Ensemble, train_ensemble
from liftscape.training._growth_schedule import Growth, GrowthSchedule
from liftscape.training._monitor import Monitor, Reading
from liftscape.training._stack import initial_model, minibatches

__all__ = [
    "Ensemble",
    "Growth",
    "GrowthSchedule",
    "Monitor",
    "Reading",
    "carry_over",
    "initial_model",
    "minibatches",
    "train_ensemble",
]
