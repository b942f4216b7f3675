"""The embedding principle in depth on real data: shallow critical points of Iris, lifted and certified."""

from collections.abc import Callable

import torch

from liftscape import data, nets
from liftscape.studies.embedding_principle_config import EmbeddingPrincipleConfig, load_config
from liftscape.studies.embedding_principle_escape import escape_and_train
from liftscape.studies.embedding_principle_lifts import CriticalPoint, certify_lifts
from liftscape.studies.embedding_principle_records import LiftedPoint, Spectrum
from liftscape.studies.embedding_principle_result import DemoResult
from liftscape.studies.embedding_principle_scenes import lift_approximately, split_and_lift, walk_along_and_across
from liftscape.studies.embedding_principle_search import find_shallow_points, network_name
from liftscape.studies.embedding_principle_training import train_from_small_starts

__all__ = ["run"]

Progress = Callable[[int, int, str], None]


def run(
    config: EmbeddingPrincipleConfig | None = None, seed: int | None = None, progress: Progress | None = None
) -> DemoResult:
    """Run the study: the landscape of a network contains the critical points of every shallower one.

    Source: Bai et al. 2022 (arXiv 2205.13283), the embedding principle in depth, on the Iris data.

    Args:
        config: the settings; the committed ones when None.
        seed: replaces the settings' seed.
        progress: called with (steps done, steps in all, what comes next).

    Returns:
        Everything that was found, as plain values: same settings and seed, same result.
    """
    config = load_config() if config is None else config
    generator = torch.Generator().manual_seed(config.seed if seed is None else seed)
    steps = _Steps(_count(config), progress)
    batch = inputs, _ = data.iris_petal_width()

    searches, points = find_shallow_points(batch, config.search, generator, steps)
    lifted = list(certify_lifts(points, inputs, config.lifts, generator, steps))
    minima = [point for point in points if point.record.role != "saddle"]
    example = _most_robust(minima)

    steps("a path on a manifold")
    path = walk_along_and_across(example, inputs, config.path, generator)
    deeper = config.training.widths
    steps(f"training of {network_name(deeper)}")
    records = tuple(point.record for point in points)
    training = train_from_small_starts(
        lambda: nets.mlp(deeper), network_name(deeper), batch, records, config.training, generator
    )
    steps("an approximate lift")
    smooth = lift_approximately(example, inputs, config.smooth)
    steps("a width split")
    split = split_and_lift(minima[::-1], inputs, config.split, generator)
    steps("the way down from worse minima")
    escaped = escape_and_train(minima, batch, config.escape, generator)
    steps.finish()
    return DemoResult(
        config=config,
        searches=tuple(searches),
        points=records,
        lifts=tuple(record for record, _ in lifted),
        spectra=tuple(_family(point, lifted) for point in _one_of_each_kind(points)),
        path=path,
        training=training,
        smooth=smooth,
        split=split,
        escape=escaped,
    )


class _Steps:
    """Progress in steps that are known beforehand."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = -1, total, progress

    def __call__(self, what: str) -> None:
        """Report the step that begins."""
        self._done = min(self._done + 1, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total, what)

    def finish(self) -> None:
        """Report the end."""
        if self._progress is not None:
            self._progress(self._total, self._total, "done")


def _count(config: EmbeddingPrincipleConfig) -> int:
    """Return the number of steps, an upper bound where fewer points are found than wanted."""
    points = len(config.search.networks) * (config.search.minima + config.search.saddles)
    ways = len(config.lifts.activations) * len(config.lifts.inserted_layers) + 1
    return len(config.search.networks) + 2 * points * ways + 5


def _most_robust(points: list[CriticalPoint]) -> CriticalPoint:
    """Return the minimum of the widest network whose eigenvalues stand off zero the most."""
    widest = max(point.risk.size for point in points)
    margin = lambda point: 0.0 if point.certificate.inertia is None else point.certificate.inertia.margin
    return max((point for point in points if point.risk.size == widest), key=margin)


def _one_of_each_kind(points: list[CriticalPoint]) -> list[CriticalPoint]:
    """Return the widest network's most robust minimum and its most robust saddle."""
    minima = [point for point in points if point.record.role != "saddle"]
    saddles = [point for point in points if point.record.role == "saddle"]
    return [_most_robust(kind) for kind in (minima, saddles) if kind]


def _family(point: CriticalPoint, lifted: list[tuple[LiftedPoint, Spectrum]]) -> tuple[Spectrum, ...]:
    """Return a point's spectrum and one of its lifts by each number of layers."""
    mine = [(record, spectrum) for record, spectrum in lifted if record.point == point.record.label]
    first = {record.layers: spectrum for record, spectrum in reversed(mine) if not record.tail}
    return point.record.spectrum, *(first[layers] for layers in sorted(first))
