"""The settings of the layer-pruning study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Deep networks, and the layers that are folded out of them.

    Attributes:
        seeds: draws of every network.
        data: "digits" or "fashion-mnist".
        networks: "mlp", "cnn".
        samples: at most so many training pictures.
        probe: so many of them are the calibration data of folds, and the test pictures measured.
        depth: hidden layers.
        width: neurons of each layer of the mlp.
        channels: of each layer of the cnn.
        steps: of SGD with momentum 0.9.
        learning_rate: of the steps.
        batch: samples of a step.
        losses: so many losses are recorded, denser at the beginning.
        flat: the plateau is the longest stretch of log steps over which the loss falls by at most this share.
        counts: how many layers are folded.
        draws: random choices of layers beside the most linear ones.
        tune: steps of the fine-tuning after a fold.
    """

    seeds: int
    data: str
    networks: tuple[str, ...]
    samples: int
    probe: int
    depth: int
    width: int
    channels: int
    steps: int
    learning_rate: float
    batch: int
    losses: int
    flat: float
    counts: tuple[int, ...]
    draws: int
    tune: int
