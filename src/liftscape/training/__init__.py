"""Training: many networks at once, and one that is watched."""

from liftscape.training._carry import carry_over
from liftscape.training._ensemble import Ensemble, train_ensemble
from liftscape.training._monitor import Monitor, Reading
from liftscape.training._stack import initial_model, minibatches

__all__ = ["Ensemble", "Monitor", "Reading", "carry_over", "initial_model", "minibatches", "train_ensemble"]
