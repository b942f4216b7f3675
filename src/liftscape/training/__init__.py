"""Training: many networks at once."""

from liftscape.training._ensemble import Ensemble, train_ensemble
from liftscape.training._stack import initial_model, minibatches

__all__ = ["Ensemble", "initial_model", "minibatches", "train_ensemble"]
