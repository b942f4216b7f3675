"""The settings of the strict-saddle study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Which lifts of planted minima are certified, and how training starts from them.

    Attributes:
        seeds: minima for each case.
        widths: of the tanh networks, from inputs to outputs.
        samples: inputs for each parameter and output.
        epsilons: sizes of the approximate lift near an inflection.
        shares: shares α of a split neuron's output.
        runs: trainings for each rule from each point.
        steps: of each training.
        offset: distance from the point at which training starts.
        fall: a training has left the plateau when the loss is below this share of its value.
        batch: samples of a step of stochastic gradient descent.
    """

    seeds: int
    widths: tuple[int, ...]
    samples: int
    epsilons: tuple[float, ...]
    shares: tuple[float, ...]
    runs: int
    steps: int
    offset: float
    fall: float
    batch: int
