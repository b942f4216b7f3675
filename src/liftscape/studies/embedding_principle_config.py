"""The settings of the embedding-principle study, read from TOML without importing torch."""

from dataclasses import dataclass
from pathlib import Path

from liftscape.studies.settings import read_settings

__all__ = [
    "EmbeddingPrincipleConfig",
    "EscapeConfig",
    "LiftsConfig",
    "PathConfig",
    "SearchConfig",
    "SmoothConfig",
    "SplitConfig",
    "TrainingConfig",
    "load_config",
]

_COMMITTED = Path(__file__).with_suffix("").with_name("embedding_principle.toml")


@dataclass(frozen=True)
class SearchConfig:
    """How critical points of the shallow networks are found.

    Attributes:
        networks: layer widths of each tanh network, from inputs to outputs.
        starts: random starts for each network.
        minima: minima of each network that are lifted: the lowest and those reached most often.
        saddles: strict saddles of each network that are lifted, chosen alike.
    """

    networks: tuple[tuple[int, ...], ...]
    starts: int
    minima: int
    saddles: int


@dataclass(frozen=True)
class LiftsConfig:
    """Which lifts of every critical point are certified.

    Attributes:
        activations: names in torch.nn of the inserted activations with exact affine pieces.
        tail_activation: name in torch.nn of the activation that is lifted on its affine tail.
        inserted_layers: numbers of layers that are inserted at each map.
        extra_width: how much wider than the rank of the map the inserted layers are.
        samples: points of each manifold.
    """

    activations: tuple[str, ...]
    tail_activation: str
    inserted_layers: tuple[int, ...]
    extra_width: int
    samples: int


@dataclass(frozen=True)
class PathConfig:
    """The path on one manifold and the line across it.

    Attributes:
        activation: name in torch.nn of the inserted activation.
        points: points of the path and of the line.
        radius: how far the line leaves the manifold, in units of parameter distance.
    """

    activation: str
    points: int
    radius: float


@dataclass(frozen=True)
class TrainingConfig:
    """Gradient descent with momentum on a deeper network from small random starts.

    Attributes:
        widths: layer widths of the tanh network.
        runs: number of random starts, trained at once.
        scale: standard deviation of the initial weights times the square root of the fan-in.
        learning_rate: step size.
        momentum: share of the last step that is kept.
        steps: number of steps.
        level_tolerance: relative distance from a shallow critical value that counts as being at that level.
    """

    widths: tuple[int, ...]
    runs: int
    scale: float
    learning_rate: float
    momentum: float
    steps: int
    level_tolerance: float


@dataclass(frozen=True)
class SmoothConfig:
    """The approximate lift through tanh.

    Attributes:
        epsilons: sizes ε of the inserted input weights.
    """

    epsilons: tuple[float, ...]


@dataclass(frozen=True)
class SplitConfig:
    """The width split.

    Attributes:
        shares: shares of the neuron's output that the copy takes, tried in this order.
    """

    shares: tuple[float, ...]


@dataclass(frozen=True)
class EscapeConfig:
    """The way down from worse minima.

    Attributes:
        activation: name in torch.nn of the inserted activation.
        width: neurons of the inserted layer.
        neurons: of them that leave their affine piece.
        ridge: of the escapes.
        points: of the path.
        further_layers: at most so many are inserted later, wherever the loss stands again.
        patience: steps over which it is seen to stand.
        learning_rate: of Adam, which trains on.
        steps: of it.
        every: the loss is recorded every so many steps.
    """

    activation: str
    width: int
    neurons: int
    ridge: float
    points: int
    further_layers: int
    patience: int
    learning_rate: float
    steps: int
    every: int


@dataclass(frozen=True)
class EmbeddingPrincipleConfig:
    """All settings of the study.

    Attributes:
        seed: seed of every random draw.
        search: the search for shallow critical points.
        lifts: the lifts that are certified.
        path: the path on a manifold.
        training: the training of a deeper network.
        smooth: the approximate lift.
        split: the width split.
        escape: the way down from worse minima.
    """

    seed: int
    search: SearchConfig
    lifts: LiftsConfig
    path: PathConfig
    training: TrainingConfig
    smooth: SmoothConfig
    split: SplitConfig
    escape: EscapeConfig


def load_config(path: Path | None = None) -> EmbeddingPrincipleConfig:
    """Read the study's settings from a TOML file.

    Args:
        path: the file; the committed one when None.

    Returns:
        The settings.

    Raises:
        LoadError: if the file cannot be read, or names a setting that does not exist, lacks one, or has another type.

    Example:
        >>> load_config().search.networks
        ((3, 1, 1), (3, 2, 1))
    """
    return read_settings(EmbeddingPrincipleConfig, _COMMITTED if path is None else path)
