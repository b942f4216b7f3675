"""The settings of the in-the-wild study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Networks of the kinds that are used, and how they are watched.

    Attributes:
        seeds: draws of every network that is trained here.
        networks: "residual cnn", "transformer", "trained mnist cnn".
        data: "digits" or "fashion-mnist".
        samples: at most so many training pictures.
        probe: so many of them are looked at.
        blocks: residual blocks of the cnn.
        channels: of each of its convolutions.
        layers: encoder layers of the transformer.
        features: of each of its tokens.
        steps: of SGD with momentum 0.9.
        learning_rate: of the steps.
        batch: samples of a step.
        losses: so many losses are recorded.
        records: and so many times the linearity of the layers.
    """

    seeds: int
    networks: tuple[str, ...]
    data: str
    samples: int
    probe: int
    blocks: int
    channels: int
    layers: int
    features: int
    steps: int
    learning_rate: float
    batch: int
    losses: int
    records: int
