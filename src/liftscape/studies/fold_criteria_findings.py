"""What the fold-criteria study found, as claims, tables and charts."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from liftscape.statistics import Effect, effect_of
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table
from liftscape.studies.fold_criteria_settings import Settings
from liftscape.studies.verdicts import verdict_of
from liftscape.training.fold_criteria import CRITERIA

__all__ = ["summarise"]

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
    deep = [row for row in rows.values() if row["what"] == "criteria"]
    decayed = [row for row in rows.values() if row["what"] == "decay"]
    stages = (("accuracy", "right after the fold"), ("tuned", "after the same fine-tuning"))
    return Findings(
        "fold-criteria",
        "Which criterion finds the layers that a network can do without, and what leaves for nothing?",
        size,
        config.seeds,
        (
            *(_more_accurate(config, deep, stage, when) for stage, when in stages),
            _further(config, deep),
            _for_nothing(config, decayed),
        ),
        (_within(config, deep), _folds(config, deep), _decay_table(config, decayed)),
        tuple(
            _trade_off(config, deep, network, stage, when)
            for network, (stage, when) in product(config.networks, stages)
        ),
    )


def _own(rows: Sequence[Row], network: str) -> list[Row]:
    """Return the runs of one network, by seed."""
    return [row for row in rows if row["network"] == network]


def _mean(row: Row, by: str, count: int, value: Callable[[Row], float]) -> float:
    """Return a number of one run, averaged over the orders of one criterion."""
    return fmean(value(each) for each in row["folds"] if each["by"] == by and each["count"] == count)


def _more_accurate(config: Settings, deep: Sequence[Row], stage: str, when: str) -> Claim:
    """Judge whether ours is more accurate than each published criterion at equal numbers of layers."""
    effects: dict[str, Effect] = {}
    for network, other in product(config.networks, CRITERIA[1:]):
        gain = lambda row, other=other: fmean(
            _mean(row, CRITERIA[0], count, lambda each: each[stage])
            - _mean(row, other, count, lambda each: each[stage])
            for count in config.counts
        )
        effects[f"{network} against {other}"] = effect_of([gain(row) for row in _own(deep, network)])
    return Claim(
        f"Folds in the order of loss per operation keep more accuracy than in that of other criteria, {when}.",
        "derived (theory 5); NEPENTHE and EASIER, Layer Folding, ShortGPT for the others",
        "points of accuracy gained at equal numbers of layers: the 95 % interval is above 0; ours measures the loss "
        "anew after each fold, the others rank once and without classes",
        "; ".join(f"{name} {effect.text(1)}" for name, effect in effects.items()),
        verdict_of(effects.values(), 1),
    )


def _kept(config: Settings, row: Row, by: str) -> float:
    """Return the largest number of layers that leave within the points that may be lost, 0 where none does."""
    bound = row["before"]["tuned"] - config.lost
    fits = [count for count in config.counts if _mean(row, by, count, lambda each: each["tuned"]) >= bound]
    return float(max(fits, default=0))


def _further(config: Settings, deep: Sequence[Row]) -> Claim:
    """Judge whether ours takes more layers out within the points that may be lost."""
    effects: dict[str, Effect] = {}
    for network, other in product(config.networks, CRITERIA[1:]):
        own = _own(deep, network)
        gains = [_kept(config, row, CRITERIA[0]) - _kept(config, row, other) for row in own]
        effects[f"{network} against {other}"] = effect_of(gains)
    return Claim(
        f"Within {config.lost:g} points of accuracy more layers leave by loss per operation than by other criteria.",
        "derived (theory 5)",
        "layers more, after fine-tuning: the 95 % interval is above 0",
        "; ".join(f"{name} {effect.text(1)}" for name, effect in effects.items()),
        verdict_of(effects.values(), 1),
    )


def _share(row: Row) -> float:
    """Return the share of the multiplications that left a network."""
    before, after = row["operations"]
    return 1 - after / before


def _for_nothing(config: Settings, decayed: Sequence[Row]) -> Claim:
    """Judge whether weight decay lets more leave without any change of the outputs."""
    without, effects, seen = config.decays[0], [], []
    for network in config.decay_networks:
        of = lambda decay, network=network: [row for row in _own(decayed, network) if row["decay"] == decay]
        for decay in config.decays[1:]:
            pairs = zip(of(decay), of(without), strict=True)
            effects.append(effect_of([100 * (_share(a) - _share(b)) for a, b in pairs]))
            first = of(decay)[0]["operations"]
            seen.append(
                f"{network} with {decay:g}: {effect_of([100 * _share(row) for row in of(decay)]).text(1)} % of the "
                f"operations leave ({first[0]:,} to {first[1]:,} with the first seed), without decay "
                f"{effect_of([100 * _share(row) for row in of(without)]).text(1)} %"
            )
    gap = max(row["gap"] for row in decayed)
    return Claim(
        "Weight decay lets operations of a ReLU network leave at zero change of its outputs on the training data.",
        "derived (theory 5)",
        "more leave than without decay: the 95 % interval is above 0; the largest relative gap is rounding",
        f"{'; '.join(seen)}; largest gap {gap:.0e}",
        verdict_of(effects, 1),
    )


def _within(config: Settings, deep: Sequence[Row]) -> Table:
    """Return a row for each network and criterion: what leaves within the points that may be lost."""
    rows: list[dict[str, Any]] = []
    for network in config.networks:
        own = _own(deep, network)
        latency = lambda value, own=own: {
            f"ms, batch {size}": effect_of([float(value(row, size)) for row in own]).text(2) for size in ("1", "64")
        }
        rows.append({
            "network": network,
            "criterion": "none folded",
            "layers folded": "0",
            "of": own[0]["layers"],
            "multiplications left": "100%",
            **latency(lambda row, size: row["before"]["milliseconds"][size]),
            "accuracy": effect_of([row["before"]["tuned"] for row in own]).text(1),
        })
        for by in CRITERIA:
            counts = [_kept(config, row, by) for row in own]
            at = lambda row, value, by=by: (
                value(row["before"])
                if not (count := int(_kept(config, row, by)))
                else _mean(row, by, count, lambda each: value(each))
            )
            left = fmean(at(row, lambda each: each["operations"]) / row["before"]["operations"] for row in own)
            times = latency(lambda row, size, at=at: at(row, lambda each: each["milliseconds"][size]))
            rows.append({
                "network": network,
                "criterion": by,
                "layers folded": effect_of(counts).text(1),
                "of": own[0]["layers"],
                "multiplications left": f"{left:.0%}",
                **times,
                "accuracy": effect_of([at(row, lambda each: each["tuned"]) for row in own]).text(1),
            })
    title = (
        f"Folded within {config.lost:g} points of accuracy after fine-tuning; median latency of {config.timed} passes "
        "on one thread"
    )
    return Table("within", title, tuple(rows))


def _folds(config: Settings, deep: Sequence[Row]) -> Table:
    """Return a row for each network, criterion and number of layers."""
    rows = []
    for network, by, count in product(config.networks, CRITERIA, config.counts):
        own = _own(deep, network)
        text = lambda key, by=by, count=count, own=own: effect_of([
            _mean(row, by, count, lambda each: each[key]) for row in own
        ]).text(1)
        rows.append({
            "network": network,
            "criterion": by,
            "layers folded": count,
            "multiplications": round(fmean(_mean(row, by, count, lambda each: each["operations"]) for row in own)),
            "accuracy right after": text("accuracy"),
            "after fine-tuning": text("tuned"),
        })
    return Table("folds", "Held-out accuracy in per cent, means over seeds with 95 % intervals", tuple(rows))


def _decay_table(config: Settings, decayed: Sequence[Row]) -> Table:
    """Return a row for each network and weight decay."""
    rows = []
    for network, decay in product(config.decay_networks, config.decays):
        own = [row for row in _own(decayed, network) if row["decay"] == decay]
        text = lambda value, digits=1, own=own: effect_of([float(value(row)) for row in own]).text(digits)
        rows.append({
            "network": network,
            "weight decay": f"{decay:g}",
            "held-out accuracy": text(lambda row: row["accuracy"]),
            "dead neurons": f"{text(lambda row: row['dead'])} of {own[0]['neurons']}",
            "affine ones beside": text(lambda row: row["beside"]),
            "layers folded": text(lambda row: row["folded"]),
            "% of operations that left": text(lambda row: 100 * _share(row)),
            "largest gap of outputs": f"{max(row['gap'] for row in own):.0e}",
        })
    return Table(
        "decay", "What leaves ReLU networks without a change of their outputs on the training data", tuple(rows)
    )


def _trade_off(config: Settings, deep: Sequence[Row], network: str, stage: str, when: str) -> Chart:
    """Draw held-out accuracy against multiplications."""
    own, series = _own(deep, network), []
    for group, by in enumerate(CRITERIA):
        points = [
            (
                fmean(_mean(row, by, count, lambda each: each["operations"]) for row in own),
                effect_of([_mean(row, by, count, lambda each: each[stage]) for row in own]),
            )
            for count in config.counts
        ]
        x, effects = tuple(each[0] / 1e6 for each in points), [each[1] for each in points]
        low, high = tuple(each.low for each in effects), tuple(each.high for each in effects)
        spread = (low, high) if len(own) > 1 and by == CRITERIA[0] else ((), ())
        series.append(Series(by, x, tuple(each.mean for each in effects), "bold", group, *spread))
    key = "accuracy" if stage == "accuracy" else "tuned"
    series.append(Series("no layer folded", (), (fmean(row["before"][key] for row in own),), "level"))
    return Chart(
        f"{network}-{stage}",
        f"{network}: accuracy {when}",
        "multiplications for a picture (millions)",
        "held-out accuracy (per cent)",
        tuple(series),
        f"Means over seeds at {', '.join(map(str, config.counts))} layers folded; shaded: 95 % interval of ours.",
    )
