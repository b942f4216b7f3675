"""The settings of the escape-growth study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Shallow networks that are trained until they stand, and what is put into them then.

    Attributes:
        seeds: draws of every network, of the data's split and of the layer that is inserted.
        first_seed: the first of them; with those below 100 the ridge and the optimizers were chosen.
        data: "curve", "iris", "digits", "fashion-mnist".
        samples: at most so many training pictures.
        hidden: neurons of the shallow network's hidden layer, for each of the data.
        width: neurons of the inserted layer, which stands in front of the output map.
        neurons: how many of them leave their piece.
        ridge: of the escape.
        activation: of the inserted layer.
        noise: of the arm with noise, as a share of the spread of each inserted weight.
        optimizers: "sgd", which is with momentum 0.9, and "adam".
        learning_rates: of each.
        before: steps until the layer is inserted.
        after: steps from there on.
        batch: samples of a step, all where there are fewer.
        losses: so many losses are recorded after the insertion.
        levels: shares of the loss at the insertion, to which steps are counted.
    """

    seeds: int
    first_seed: int
    data: tuple[str, ...]
    samples: int
    hidden: tuple[int, ...]
    width: int
    neurons: int
    ridge: float
    activation: str
    noise: float
    optimizers: tuple[str, ...]
    learning_rates: tuple[float, ...]
    before: int
    after: int
    batch: int
    losses: int
    levels: tuple[float, ...]
