"""What the batch-norm study found, as claims, tables and charts."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import log2
from statistics import fmean
from typing import Any

from liftscape.statistics import Effect, effect_of
from liftscape.studies.batch_norm_charts import (
    STARTS,
    VARIANTS,
    held_chart,
    layer_maps,
    loss_chart,
    runs_of,
    start_chart,
)
from liftscape.studies.batch_norm_settings import Settings
from liftscape.studies.findings import Claim, Findings, Table
from liftscape.studies.trainings import capped_steps, held_share
from liftscape.studies.verdicts import as_number, verdict_of

__all__ = ["summarise"]

_SOURCE = "paper: batch normalisation against layer linearization"
Row = Mapping[str, Any]


def summarise(config: Settings, size: str, rows: Mapping[str, Row]) -> Findings:
    """Return claims, tables and charts.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    runs = list(rows.values())
    settings = list(product(config.networks, config.data))
    claims = (
        _over_settings(
            "Batch normalisation keeps layers from being linearised during training.",
            _SOURCE,
            "with it a smaller share of neurons is on one affine piece for all samples",
            "share with − share without",
            {"/".join(pair): _held_change(runs, *pair) for pair in settings},
            -1,
        ),
        _over_settings(
            "Batch normalisation makes the training loss decay faster.",
            _SOURCE,
            "fewer steps to the same losses",
            "log₂ of steps with / steps without",
            {"/".join(pair): _speed(config, runs, *pair) for pair in settings},
            -1,
        ),
        _never_at_zero(runs),
        _over_settings(
            "A large β undoes what batch normalisation does to linearity.",
            "derived (T8)",
            "from a large β on, more neurons are on one piece than with β = 0 at the start",
            "share with large β − share with β learnt from 0",
            {"/".join(pair): _held_change(runs, *pair, "norm, large β", "norm") for pair in settings},
            1,
        ),
        _over_settings(
            "A start on a lifted manifold slows the same network down.",
            "derived: causal control of the paper's claim",
            f"more steps from the shallow loss to {config.target:g} of it on the manifold than on the way from off it",
            "log₂ of steps on / steps off",
            {name: _delay(config, runs, name, "on", "off") for name in config.data},
            1,
        ),
        _over_settings(
            "On the manifold, batch normalisation that leaves all outputs as they are speeds the way off it.",
            "derived: causal control",
            f"fewer steps from the shallow loss to {config.target:g} of it",
            "log₂ of steps with / steps without",
            {name: _delay(config, runs, name, "on, norm", "on") for name in config.data},
            -1,
        ),
    )
    charts = [
        chart
        for pair in settings
        for chart in (loss_chart(runs, *pair), held_chart(runs, *pair), *layer_maps(runs, *pair))
    ]
    return Findings(
        "batch-norm",
        "Does batch normalisation keep layers from being linearised, and is that why training is faster?",
        size,
        config.seeds,
        claims,
        (_trainings(config, runs), _starts(config, runs)),
        (*charts, *(start_chart(config.depth, runs, name) for name in config.data)),
    )


def _held_change(runs: Sequence[Row], network: str, name: str, one: str = "norm", other: str = "plain") -> Effect:
    """Return by how much that share differs between two variants, seed by seed."""
    pairs = zip(runs_of(runs, network, name, one), runs_of(runs, network, name, other), strict=True)
    return effect_of([held_share(a) - held_share(b) for a, b in pairs])


def _speed(config: Settings, runs: Sequence[Row], network: str, name: str) -> Effect:
    """Return log₂ of the ratio of steps with and without, averaged over the levels, seed by seed."""
    pairs = zip(runs_of(runs, network, name, "norm"), runs_of(runs, network, name, "plain"), strict=True)
    ratio = lambda a, b, level: log2(capped_steps(a, level, config.steps) / capped_steps(b, level, config.steps))
    return effect_of([fmean(ratio(a, b, level) for level in config.levels) for a, b in pairs])


def _way(config: Settings, row: Row) -> float:
    """Return the steps from the shallow network's loss to the target, a whole training's where it is not reached."""
    reached = capped_steps(row, config.target * row["shallow_loss"], config.steps)
    # The starts on the manifold have the shallow loss at once, up to the noise of their batches.
    before = capped_steps(row, row["shallow_loss"], config.steps) if row["variant"].startswith("off") else 0.0
    return max(1.0, reached - before) if reached < config.steps else float(config.steps)


def _delay(config: Settings, runs: Sequence[Row], name: str, one: str, other: str) -> Effect:
    """Return log₂ of the ratio of steps from two starts, seed by seed."""
    pairs = zip(runs_of(runs, "control", name, one), runs_of(runs, "control", name, other), strict=True)
    return effect_of([log2(_way(config, a) / _way(config, b)) for a, b in pairs])


def _over_settings(
    statement: str,
    source: str,
    expected: str,
    what: str,
    effects: Mapping[str, Effect],
    side: int,
) -> Claim:
    """Judge a claim by the intervals of all settings."""
    seen = "; ".join(f"{name} {effect.text()}" for name, effect in effects.items())
    expected = f"{expected}: the 95 % interval is {'above' if side > 0 else 'below'} 0"
    return Claim(statement, source, expected, f"{what}: {seen}", verdict_of(effects.values(), side))


def _never_at_zero(runs: Sequence[Row]) -> Claim:
    """Judge the mechanism: with β = 0 no neuron stays on one piece."""
    own = [row for row in runs if row["variant"] == "norm, β = 0"]
    most = max(share for row in own for layers in row["held"] for share in layers)
    alive = max(
        held - dead
        for row in own
        for shares in zip(row["held"], row["dead"], strict=True)
        for held, dead in zip(*shares, strict=True)
    )
    return Claim(
        "With β = 0 no neuron is linear on all samples unless it is constant.",
        "derived (T8)",
        "no neuron on one piece, at any time, in any layer",
        f"the largest share on one piece of any layer at any time is {most:.2f}, on the active piece {alive:.2f}, in "
        f"{len(own)} trainings",
        "holds" if most == 0 else "does not hold",
    )


def _trainings(config: Settings, runs: Sequence[Row]) -> Table:
    """Return a row for each network, data and variant."""
    rows = []
    for network, name, variant in product(config.networks, config.data, VARIANTS):
        own = runs_of(runs, network, name, variant)
        steps = {
            f"steps to {level:g}": effect_of([capped_steps(row, level, config.steps) for row in own]).text(0)
            for level in config.levels
        }
        rows.append({
            "network": network,
            "data": name,
            "variant": variant,
            "neurons on one piece, mean over training": effect_of([held_share(row) for row in own]).text(),
            "at the start": effect_of([fmean(row["held"][0]) for row in own]).text(),
            "at the end": effect_of([fmean(row["held"][-1]) for row in own]).text(),
            "final loss": effect_of([as_number(row["losses"][-1]) for row in own]).text(4),
            **steps,
        })
    return Table("trainings", f"Means over seeds with 95 % intervals; {config.steps} steps where never", tuple(rows))


def _starts(config: Settings, runs: Sequence[Row]) -> Table:
    """Return a row for each data set and start of the control."""
    rows = []
    for name, start in product(config.data, STARTS):
        own = runs_of(runs, "control", name, start)
        rows.append({
            "data": name,
            "start": f"{start.partition(',')[0]} the manifold",
            "BatchNorm": "yes" if "norm" in start else "no",
            "shallow loss": effect_of([row["shallow_loss"] for row in own]).text(3),
            "steps to the target": effect_of([_way(config, row) for row in own]).text(0),
            "never there": sum(_way(config, row) == config.steps for row in own),
            "neurons on one piece at the start": effect_of([fmean(row["held"][0]) for row in own]).text(),
            "final loss": effect_of([as_number(row["losses"][-1]) for row in own]).text(4),
        })
    return Table(
        "control",
        f"The same network from three starts: steps from the shallow loss to {config.target:g} of it",
        tuple(rows),
    )
