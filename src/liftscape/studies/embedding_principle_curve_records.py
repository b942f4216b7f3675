"""The curves and scenes of the embedding-principle study's result: plain frozen values, no tensors."""

from dataclasses import dataclass

from liftscape.outcomes import Outcome
from liftscape.studies.embedding_principle_records import Spectrum

__all__ = ["PathStudy", "SmoothStudy", "SplitStudy", "TrainingLevel", "TrainingStudy"]


@dataclass(frozen=True)
class PathStudy(Outcome):
    """The loss along a path on a lifted manifold and on a line across it.

    Attributes:
        point: label of the shallow critical point.
        activation: the inserted activation.
        at: name of the affine map.
        value: the shallow loss.
        along: parameter of the path, from 0 to 1.
        along_loss: loss at each point of the path.
        along_distance: parameter distance from the start of the path.
        across: signed parameter distance from the manifold.
        across_loss: loss at each point of the line.
    """

    point: str
    activation: str
    at: str
    value: float
    along: tuple[float, ...]
    along_loss: tuple[float, ...]
    along_distance: tuple[float, ...]
    across: tuple[float, ...]
    across_loss: tuple[float, ...]


@dataclass(frozen=True)
class TrainingLevel(Outcome):
    """A shallow critical value, and how long the deeper networks stay at it.

    Attributes:
        point: label of the shallow critical point.
        network: its network.
        value: its loss.
        kind: its verdict.
        runs: number of runs that come within the tolerance of the value.
        longest_stay: largest number of consecutive steps that a run stays there.
    """

    point: str
    network: str
    value: float
    kind: str
    runs: int
    longest_stay: int


@dataclass(frozen=True)
class TrainingStudy(Outcome):
    """Training losses of a deeper network from small random starts.

    Attributes:
        network: activation and widths.
        steps: the recorded steps.
        losses: for every run, the loss at each recorded step.
        levels: the shallow critical values.
        tolerance: relative distance that counts as being at a level.
    """

    network: str
    steps: tuple[int, ...]
    losses: tuple[tuple[float, ...], ...]
    levels: tuple[TrainingLevel, ...]
    tolerance: float


@dataclass(frozen=True)
class SmoothStudy(Outcome):
    """The approximate lift of a minimum through a smooth activation.

    Attributes:
        point: label of the shallow minimum.
        at: name of the affine map.
        activation: the inserted activation.
        epsilons: sizes ε of the inserted input weights.
        output_error: largest deviation of the outputs on the data.
        gradient_norm: ‖∇R‖.
        smallest_eigenvalue: smallest eigenvalue of the Hessian.
        negative: number of negative eigenvalues.
        error_slope: fitted slope of log output error against log ε.
        gradient_slope: fitted slope of log gradient norm against log ε.
        shallow_smallest: smallest eigenvalue at the shallow minimum.
    """

    point: str
    at: str
    activation: str
    epsilons: tuple[float, ...]
    output_error: tuple[float, ...]
    gradient_norm: tuple[float, ...]
    smallest_eigenvalue: tuple[float, ...]
    negative: tuple[int, ...]
    error_slope: float
    gradient_slope: float
    shallow_smallest: float


@dataclass(frozen=True)
class SplitStudy(Outcome):
    """A minimum, the same minimum with one neuron split, and the split one lifted.

    Attributes:
        point: label of the shallow minimum.
        at: name of the layer whose neuron is split.
        neuron: its index.
        share: share of its output that the copy takes.
        output_gap: largest relative deviation of the outputs on the data after the split.
        spectra: minimum, split, split and lifted.
    """

    point: str
    at: str
    neuron: int
    share: float
    output_gap: float
    spectra: tuple[Spectrum, ...]
