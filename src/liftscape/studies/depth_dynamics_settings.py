"""The settings of the depth-dynamics study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Deep networks trained from small weights, and the shallow networks whose critical points they may meet.

    Attributes:
        seeds: trainings for each depth and data set.
        data: "iris", or names of synthetic curves.
        depths: numbers of hidden layers.
        width: neurons of each hidden layer.
        scale: times which the weights are drawn.
        steps: gradient steps on the whole data set.
        learning_rate: of gradient descent with momentum.
        momentum: its share of the last step.
        record: a loss is recorded every so many steps.
        flat: a plateau is a stretch over which the loss falls by at most this share,
        stretch: and which lasts at least this share of the training.
        shallow: hidden widths of the shallow networks that are searched.
        starts: random starts of each search.
        loss_tolerance: a plateau is matched where the loss is within this share of a critical value,
        output_tolerance: and the outputs are within this share of the targets' spread of those of the critical point.
    """

    seeds: int
    data: tuple[str, ...]
    depths: tuple[int, ...]
    width: int
    scale: float
    steps: int
    learning_rate: float
    momentum: float
    record: int
    flat: float
    stretch: float
    shallow: tuple[tuple[int, ...], ...]
    starts: int
    loss_tolerance: float
    output_tolerance: float
