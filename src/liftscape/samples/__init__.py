"""The samples S in batches, the loss on them, and what makes both a function of the parameters."""

from liftscape.samples._batches import Batch, Batches, as_batches, batch_size, sample_width
from liftscape.samples._function import check_batch_statistics, check_model, check_real, check_repeatable
from liftscape.samples._loss import Loss, as_loss, check_loss, loss_name
from liftscape.samples._normaliser import NormalisedLoss, normaliser_of
from liftscape.samples._parts import Part, join_parts
from liftscape.samples._sparse import dense_parts

__all__ = [
    "Batch",
    "Batches",
    "Loss",
    "NormalisedLoss",
    "Part",
    "as_batches",
    "as_loss",
    "batch_size",
    "check_batch_statistics",
    "check_loss",
    "check_model",
    "check_real",
    "check_repeatable",
    "dense_parts",
    "join_parts",
    "loss_name",
    "normaliser_of",
    "sample_width",
]
