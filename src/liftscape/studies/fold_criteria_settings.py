"""The settings of the fold-criteria study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Deep convolutional networks whose layers leave in several orders, and networks trained with weight decay.

    Attributes:
        seeds: draws of every network.
        first_seed: of them; others follow.
        data: "digits" or "fashion-mnist".
        networks: "plain", "residual".
        samples: at most so many training pictures.
        probe: so many of them are the calibration data of folds and criteria.
        tested: test pictures on which accuracy is measured.
        depth: convolutions.
        channels: of each.
        steps: of SGD with momentum 0.9.
        learning_rate: of the steps; a third of it for fine-tuning and slopes.
        batch: samples of a step.
        counts: how many layers are folded.
        draws: random orders beside the criteria.
        tune: steps of the fine-tuning after a fold.
        slope_steps: in which the slopes of PReLUs are learnt.
        slope_penalty: weight of the mean of (1 − α)² in that loss.
        lost: points of accuracy that may be lost.
        timed: so often a latency is measured.
        decays: weight decays of the ReLU networks; the first is none.
        decay_networks: "mlp", "cnn".
        decay_width: neurons of each layer of the mlp.
        decay_channels: of each layer of the cnn.
        decay_steps: of their training.
        decay_rate: learning rate of it.
    """

    seeds: int
    first_seed: int
    data: str
    networks: tuple[str, ...]
    samples: int
    probe: int
    tested: int
    depth: int
    channels: int
    steps: int
    learning_rate: float
    batch: int
    counts: tuple[int, ...]
    draws: int
    tune: int
    slope_steps: int
    slope_penalty: float
    lost: float
    timed: int
    decays: tuple[float, ...]
    decay_networks: tuple[str, ...]
    decay_width: int
    decay_channels: int
    decay_steps: int
    decay_rate: float
