"""The settings of the batch-norm study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Networks with and without batch normalisation, and the starts of the control.

    Attributes:
        seeds: draws of every network.
        data: "digits", "fashion-mnist".
        networks: "mlp", "cnn".
        samples: at most so many training pictures.
        probe: so many of them are looked at.
        depth: hidden layers of the mlp.
        width: their neurons.
        channels: of the cnn.
        steps: of SGD with momentum 0.9.
        learning_rate: of the steps.
        batch: samples of a step.
        losses: so many losses are recorded, denser at the beginning.
        layers: and so many times the linearity of the layers.
        levels: losses to which steps are counted.
        large: β of the variant in which BatchNorm starts with a large shift.
        shallow_steps: steps of the network with one hidden layer that the control lifts.
        control_rate: learning rate of the control; lifted networks are sharp, and must not be thrown off their start.
        near: noise of the start near the manifold, relative to the size of each tensor.
        target: the control counts the steps from the shallow network's loss to this share of it.
    """

    seeds: int
    data: tuple[str, ...]
    networks: tuple[str, ...]
    samples: int
    probe: int
    depth: int
    width: int
    channels: tuple[int, ...]
    steps: int
    learning_rate: float
    batch: int
    losses: int
    layers: int
    levels: tuple[float, ...]
    large: float
    shallow_steps: int
    control_rate: float
    near: float
    target: float
