"""The settings of the degeneracy study."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Which planted critical points are lifted, and how.

    Attributes:
        seeds: networks for each kind of point and each way of lifting.
        widths: of the tanh networks, from inputs to outputs.
        samples: inputs for each parameter and output, so that the point is isolated.
        activations: names in torch.nn of the inserted activations; with an affine tail only, it is lifted there.
        layers: numbers of layers that are inserted.
        extra_widths: how much wider than the rank of the map the inserted layers are.
        ranks: "full", or "deficient" for a map whose weight has rank 1.
    """

    seeds: int
    widths: tuple[int, ...]
    samples: int
    activations: tuple[str, ...]
    layers: tuple[int, ...]
    extra_widths: tuple[int, ...]
    ranks: tuple[str, ...]
