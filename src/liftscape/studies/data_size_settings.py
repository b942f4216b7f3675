"""The settings of the data-size study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Nested data sets, and networks trained on each of them.

    Attributes:
        seeds: draws of every network.
        data: "digits" or "fashion-mnist".
        sizes: numbers of samples, ascending; each data set holds the smaller ones.
        orders: orders of the samples over which the volume is averaged.
        draws: random neurons for each order.
        neurons: k, the width of every hidden layer.
        depth: hidden layers.
        steps: of SGD with momentum 0.9.
        learning_rate: of the steps.
        batches: in an epoch of minibatch training, whatever the size.
        losses: so many losses are recorded.
        layers: and so many times the linearity of the layers.
        levels: training losses to which steps are counted.
        shallow_steps: steps on the smallest data set of the network with one hidden layer that is lifted there.
        manifold_rate: learning rate from that start; lifted networks are sharp.
        target: from there, steps are counted to this share of the loss at the start.
    """

    seeds: int
    data: str
    sizes: tuple[int, ...]
    orders: int
    draws: int
    neurons: int
    depth: int
    steps: int
    learning_rate: float
    batches: int
    losses: int
    layers: int
    levels: tuple[float, ...]
    shallow_steps: int
    manifold_rate: float
    target: float
