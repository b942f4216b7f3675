"""Rows of the report's tables, as text."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from liftscape.report._captions import power_of_ten
from liftscape.studies.embedding_principle_records import LiftedPoint
from liftscape.studies.embedding_principle_result import DemoResult

__all__ = ["lift_groups", "lift_rows", "point_rows", "settings_rows"]


def point_rows(result: DemoResult) -> list[dict[str, Any]]:
    """Return one row for every shallow critical point.

    Args:
        result: the study's result.

    Returns:
        Rows of column title to value.
    """
    return [
        {
            "point": point.label,
            "network": point.network,
            "loss": f"{point.value:.8f}",
            "where it stands": point.role,
            "verdict": point.spectrum.kind,
            "n₋, n₀, n₊": _triple(point.spectrum.inertia),
            "smallest eigenvalue": power_of_ten(point.spectrum.eigenvalues[0], 1),
            "‖∇R‖": power_of_ten(point.spectrum.gradient_norm),
            "starts that reach it": point.hits,
        }
        for point in result.points
    ]


def lift_groups(result: DemoResult) -> list[dict[str, Any]]:
    """Return one row for every way of lifting: activation and number of layers, all points and maps together.

    Args:
        result: the study's result.

    Returns:
        Rows of column title to value.
    """
    groups: dict[tuple[str, int], list[LiftedPoint]] = {}
    for lift in result.lifts:
        groups.setdefault((_activation(lift), lift.layers), []).append(lift)
    return [
        {
            "inserted": f"{layers} × {activation}",
            "lifted points": len(lifts),
            "output gap ≤": power_of_ten(max(lift.output_gap for lift in lifts)),
            "‖∇R‖ ≤": power_of_ten(max(lift.gradient_norm for lift in lifts)),
            "‖H′−JᵀHJ‖/‖H′‖ ≤": power_of_ten(max(lift.hessian_gap for lift in lifts)),
            "inertia as predicted": _agreement(lifts),
            "added zeros = dimension": f"{sum(lift.added_nullity == lift.dimension for lift in lifts)} of {len(lifts)}",
            "piece margin ≥": power_of_ten(min(lift.piece_margin for lift in lifts)),
            "kink margin ≥": power_of_ten(min(lift.kink_margin for lift in lifts)),
            "verdicts": ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(lift.kind for lift in lifts).items())),
        }
        for (activation, layers), lifts in groups.items()
    ]


def lift_rows(result: DemoResult) -> list[dict[str, Any]]:
    """Return one row for every lifted point: its whole certificate.

    Args:
        result: the study's result.

    Returns:
        Rows of column title to value.
    """
    return [
        {
            "point": lift.point,
            "network": lift.network,
            "at": f"{lift.at}",
            "inserted": f"{_activation(lift)}, " + " + ".join(map(str, lift.widths)),
            "sample": lift.sample + 1,
            "slopes": " | ".join(", ".join(f"{slope:g}" for slope in layer) for layer in lift.slopes),
            "output gap": power_of_ten(lift.output_gap),
            "‖∇R‖": power_of_ten(lift.gradient_norm),
            "‖H′−JᵀHJ‖/‖H′‖": power_of_ten(lift.hessian_gap),
            "predicted": lift.predicted,
            "measured": _triple(lift.measured),
            "margin": power_of_ten(lift.margin),
            "dimension": lift.dimension,
            "added zeros": lift.added_nullity,
            "piece margin": power_of_ten(lift.piece_margin),
            "kink margin": power_of_ten(lift.kink_margin),
            "verdict": lift.kind,
        }
        for lift in result.lifts
    ]


def settings_rows(result: DemoResult) -> list[tuple[str, str]]:
    """Return the settings as names and values.

    Args:
        result: the study's result.

    Returns:
        Pairs of dotted name and text.
    """
    return list(_settings(result.config, ""))


def _settings(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Walk through nested settings."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", str(value)


def _agreement(lifts: list[LiftedPoint]) -> str:
    """Say how many of the decided ones are as predicted, and how many are undecided."""
    decided = [lift for lift in lifts if lift.decided]
    undecided = len(lifts) - len(decided)
    agreeing = sum(lift.as_predicted for lift in decided)
    return f"{agreeing} of {len(decided)}" + (f" ({undecided} undecided)" if undecided else "")


def _activation(lift: LiftedPoint) -> str:
    """Name the activation, and its tail where that is what is used."""
    return f"{lift.activation} tail" if lift.tail else lift.activation


def _triple(counts: tuple[int, int, int]) -> str:
    """Write an inertia."""
    return "({}, {}, {})".format(*counts)
