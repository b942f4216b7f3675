"""The shallow critical points of the study: found from many starts, chosen, certified."""

from collections.abc import Callable

import torch

from liftscape import nets
from liftscape.critical import Certificate, CriticalPoints, CriticalSearch, certify, find_critical_points
from liftscape.risk import EmpiricalRisk
from liftscape.samples import Batch
from liftscape.studies.embedding_principle_config import SearchConfig
from liftscape.studies.embedding_principle_lifts import CriticalPoint, spectrum_of
from liftscape.studies.embedding_principle_records import ShallowPoint, ShallowSearch

__all__ = ["WORSE", "find_shallow_points", "network_name"]

# The role of a minimum below which another of its network was found.
WORSE = "worse local minimum"

Certified = tuple[CriticalSearch, int, EmpiricalRisk, Certificate]


def find_shallow_points(
    data: Batch, config: SearchConfig, generator: torch.Generator, progress: Callable[[str], None]
) -> tuple[list[ShallowSearch], list[CriticalPoint]]:
    """Find critical points of every configured network, and certify the lowest and the most often reached ones.

    Args:
        data: inputs and targets; the loss is the mean squared error.
        config: networks, starts, numbers of minima and saddles kept.
        generator: draws the starts.
        progress: told what is done.

    Returns:
        What became of all starts, and the chosen points, minima first, by increasing risk.
    """
    searches, points = [], []
    for widths in config.networks:
        name = network_name(widths)
        progress(f"{config.starts} starts of {name}")
        risk = EmpiricalRisk(nets.mlp(widths), "mse", data)
        found = find_critical_points(risk, starts=config.starts, generator=generator)
        searches.append(ShallowSearch(name, config.starts, found.counts, len(found.points)))
        points += _chosen(name, risk, found, config, len(points))
    return searches, points


def network_name(widths: tuple[int, ...]) -> str:
    """Return the name of a tanh network.

    Args:
        widths: from inputs to outputs.

    Returns:
        As in "tanh 3-2-1".
    """
    return f"tanh {'-'.join(map(str, widths))}"


def _chosen(
    name: str, risk: EmpiricalRisk, found: CriticalPoints, config: SearchConfig, already: int
) -> list[CriticalPoint]:
    """Certify all points of one network and keep the configured numbers of minima and saddles."""
    certified = [
        (search, hits, risk.with_model(search.model), certify(risk.with_model(search.model)))
        for search, hits in zip(found.points, found.hits, strict=True)
    ]
    decided = [entry for entry in certified if entry[3].inertia is not None and entry[3].inertia.decided]
    minima = [entry for entry in decided if entry[3].kind == "local minimum"]
    saddles = [entry for entry in decided if entry[3].kind == "strict saddle"]
    kept = _lowest_and_frequent(minima, config.minima) + _lowest_and_frequent(saddles, config.saddles)
    points = []
    for number, (search, hits, at_point, certificate) in enumerate(kept, start=already + 1):
        label = f"P{number}"
        role = "saddle" if certificate.kind == "strict saddle" else _role(search, found)
        record = ShallowPoint(label, name, role, search.value, hits, spectrum_of(label, at_point, certificate))
        points.append(CriticalPoint(record, at_point, certificate))
    return points


def _lowest_and_frequent(entries: list[Certified], count: int) -> list[Certified]:
    """Return the entry of lowest risk and those reached most often, by increasing risk."""
    rest = sorted(entries[1:], key=lambda entry: (-entry[1], entry[0].value))
    return sorted(entries[:1] + rest[: max(0, count - 1)], key=lambda entry: entry[0].value)


def _role(search: CriticalSearch, found: CriticalPoints) -> str:
    """Say where a minimum stands; that a lower one exists elsewhere cannot be excluded."""
    return "global minimum of those found" if search is found.points[0] else WORSE
