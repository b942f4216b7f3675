"""What the embedding-principle study hands to a table, a report and JSON."""

from collections.abc import Iterable
from dataclasses import dataclass

from liftscape.outcomes import Outcome
from liftscape.studies.embedding_principle_config import EmbeddingPrincipleConfig
from liftscape.studies.embedding_principle_curve_records import PathStudy, SmoothStudy, SplitStudy, TrainingStudy
from liftscape.studies.embedding_principle_escape_records import EscapeStudy
from liftscape.studies.embedding_principle_records import LiftedPoint, ShallowPoint, ShallowSearch, Spectrum

__all__ = ["DemoResult"]


@dataclass(frozen=True)
class DemoResult(Outcome):
    """Everything the study found.

    Attributes:
        config: the settings it ran with.
        searches: what became of all starts.
        points: the shallow critical points.
        lifts: the certificates of the lifted points.
        spectra: families of spectra: a shallow point first, its lifts after it.
        path: loss along and across a manifold.
        training: training losses of a deeper network.
        smooth: the approximate lift.
        split: the width split.
        escape: the way down from worse minima.
    """

    config: EmbeddingPrincipleConfig
    searches: tuple[ShallowSearch, ...]
    points: tuple[ShallowPoint, ...]
    lifts: tuple[LiftedPoint, ...]
    spectra: tuple[tuple[Spectrum, ...], ...]
    path: PathStudy
    training: TrainingStudy
    smooth: SmoothStudy
    split: SplitStudy
    escape: EscapeStudy

    @property
    def verdict(self) -> str:
        """The study's answer in one sentence."""
        agreeing = sum(lift.decided and lift.as_predicted for lift in self.lifts)
        undecided = sum(not lift.decided for lift in self.lifts)
        return (
            f"{agreeing} of {len(self.lifts)} lifted points: inertia as predicted"
            f"{f' ({undecided} undecided)' if undecided else ''}, outputs kept to "
            f"{_largest(lift.output_gap for lift in self.lifts)}, gradient zero to "
            f"{_largest(lift.gradient_norm for lift in self.lifts)}."
        )

    def table(self) -> list[dict[str, str]]:
        """Return one row for every shallow critical point, its lifts summed up, for a terminal.

        Returns:
            Rows of column name to text.
        """
        return [_row(point, [lift for lift in self.lifts if lift.point == point.label]) for point in self.points]


def _row(point: ShallowPoint, lifts: list[LiftedPoint]) -> dict[str, str]:
    """Sum up one critical point and its lifts."""
    decided = [lift for lift in lifts if lift.decided]
    return {
        "point": point.label,
        "network": point.network,
        "loss": f"{point.value:.6f}",
        "kind": point.spectrum.kind,
        "n-,n0,n+": "({},{},{})".format(*point.spectrum.inertia),
        "hits": str(point.hits),
        "lifts": str(len(lifts)),
        "outputs kept to": _largest(lift.output_gap for lift in lifts),
        "gradient": _largest(lift.gradient_norm for lift in lifts),
        "H' - J'HJ": _largest(lift.hessian_gap for lift in lifts),
        "inertia as predicted": f"{sum(lift.as_predicted for lift in decided)} of {len(decided)}",
        "lifted kind": ", ".join(sorted({lift.kind for lift in lifts})),
    }


def _largest(values: Iterable[float]) -> str:
    """Write the largest value with one digit."""
    return f"{max(values, default=0.0):.0e}"
