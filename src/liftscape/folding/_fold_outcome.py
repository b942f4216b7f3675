"""What a fold returns: the network, and what became of each activation."""

from dataclasses import dataclass, field

from torch import nn

from liftscape.outcomes import Outcome, TableOutcome

__all__ = ["Fold", "FoldRow"]


@dataclass(frozen=True)
class FoldRow(Outcome):
    """What became of one activation.

    Attributes:
        activation: its name.
        first: the affine map before it.
        last: the affine map after it.
        folded: whether it was removed.
        neurons: its neurons.
        linear: neurons that one affine piece holds on all samples.
        dead: those among them on a piece with λ = 0.
        reason: one sentence.
        r2: of the map that took the layer's place by least squares; NaN for an exact fold.
        adjusted_r2: R² corrected for the map's inputs; NaN also where there are no more samples than these.
        predicted: change of the risk by this fold to first order, ⟨E[e hᵀ], Ŵ⟩ + ⟨E e, b̂⟩ − E⟨e, z⟩; NaN for an exact
            fold, or where no risk was given.
        measured: the same, as the folded network shows it.
    """

    activation: str
    first: str
    last: str
    folded: bool
    neurons: int
    linear: int
    dead: int
    reason: str
    r2: float = float("nan")
    adjusted_r2: float = float("nan")
    predicted: float = float("nan")
    measured: float = float("nan")


@dataclass(frozen=True)
class Fold(TableOutcome):
    """A network with fewer layers and the same outputs on the data.

    Attributes:
        model: the folded network, new.
        removed: names of the activations that left.
        report: one row for each activation between two affine maps.
        parameters_before: of the given network, frozen ones too.
        parameters_after: of the folded one.
        base: the network that was folded, as given; its structure is what :func:`liftscape.save` starts from.
    """

    _rows = "report"

    model: nn.Module
    removed: tuple[str, ...]
    report: tuple[FoldRow, ...]
    parameters_before: int
    parameters_after: int
    base: nn.Module = field(repr=False)
