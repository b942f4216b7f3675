"""What the layer-pruning study found, as claims, tables and charts."""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from liftscape.statistics import Effect, effect_of
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table
from liftscape.studies.layer_pruning_settings import Settings
from liftscape.studies.trainings import loss_chart, seed_curves
from liftscape.studies.verdicts import as_number, verdict_of

__all__ = ["STATES", "summarise"]

STATES = ("plateau", "end")
_SOURCE = "paper: layer linearization as a way to prune layers"
# A loss within this share of what it was is called unchanged.
_UNCHANGED = 0.05
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
    settings = list(product(config.networks, STATES))
    least = config.counts[0]
    claims = (
        _unchanged(config, runs, "plateau", least),
        _unchanged(config, runs, "end", least),
        *(
            _beyond_random(
                f"{when}, a network without its most linear layers is more accurate than one without random ones.",
                {
                    f"{network} at the {state}": _gain(config, runs, network, state, stage)
                    for network, state in settings
                },
            )
            for when, stage in (("Right after the fold", "after"), ("After a short fine-tuning", "tuned"))
        ),
    )
    charts = [_accuracy_chart(config, runs, network, state) for network, state in settings]
    return Findings(
        "layer-pruning",
        "Can layers that training has linearised be folded away, at a plateau and at the end?",
        size,
        config.seeds,
        claims,
        (_folds(config, runs), _linearity(runs)),
        (*(_loss_chart(config, runs, network) for network in config.networks), *charts),
    )


def _own(runs: Sequence[Row], network: str) -> list[Row]:
    """Return the runs of one network, by seed."""
    return [row for row in runs if row["network"] == network]


def _mean(row: Row, state: str, by: str, count: int, stage: str, what: str) -> float:
    """Return one number of one run, averaged over its draws of layers."""
    chosen = [each for each in row[state]["folds"] if each["by"] == by and each["count"] == count]
    return fmean(as_number(each[stage][what]) for each in chosen)


def _unchanged(config: Settings, runs: Sequence[Row], state: str, count: int) -> Claim:
    """Judge whether the most linear layer leaves without a change of the loss."""
    changes = {
        network: effect_of([
            _mean(row, state, "linear", count, "after", "loss") / row[state]["before"]["loss"] - 1
            for row in _own(runs, network)
        ])
        for network in config.networks
    }
    return Claim(
        f"At the {state} the most linear layer can be folded away without harm.",
        _SOURCE,
        f"the held-out loss rises by at most {_UNCHANGED:.0%}, with 95 % confidence",
        "relative change of the loss: " + "; ".join(f"{name} {effect.text(3)}" for name, effect in changes.items()),
        verdict_of(changes.values(), -1, _UNCHANGED),
    )


def _gain(config: Settings, runs: Sequence[Row], network: str, state: str, stage: str) -> Effect:
    """Return by how many points of accuracy the linear choice beats the random one, over all counts, seed by seed."""

    def accuracy_of(row: Row, by: str) -> float:
        return 100 * fmean(_mean(row, state, by, count, stage, "accuracy") for count in config.counts)

    return effect_of([accuracy_of(row, "linear") - accuracy_of(row, "random") for row in _own(runs, network)])


def _beyond_random(statement: str, effects: Mapping[str, Effect]) -> Claim:
    """Judge a claim by whether the intervals lie above zero."""
    verdict = verdict_of(effects.values(), 1)
    seen = "; ".join(f"{name} {effect.text(1)}" for name, effect in effects.items())
    return Claim(statement, _SOURCE, "the 95 % interval is above 0", f"points of accuracy gained: {seen}", verdict)


def _folds(config: Settings, runs: Sequence[Row]) -> Table:
    """Return a row for each network, state, number of layers and choice."""
    rows = []
    for network, state, count, by in product(config.networks, STATES, config.counts, ("linear", "random")):
        own = _own(runs, network)
        before = [row[state]["before"] for row in own]
        value = lambda stage, what, own=own, state=state, by=by, count=count: [
            _mean(row, state, by, count, stage, what) for row in own
        ]
        share = lambda what, before=before, value=value: fmean(
            after / first[what] for after, first in zip(value("after", what), before, strict=True)
        )
        rows.append({
            "network": network,
            "state": state,
            "layers folded": count,
            "chosen": "most linear" if by == "linear" else "at random",
            "accuracy before": effect_of([100 * each["accuracy"] for each in before]).text(1),
            "after": effect_of([100 * each for each in value("after", "accuracy")]).text(1),
            "tuned": effect_of([100 * each for each in value("tuned", "accuracy")]).text(1),
            "loss before": effect_of([each["loss"] for each in before]).text(),
            "loss after": effect_of(value("after", "loss")).text(),
            "loss tuned": effect_of(value("tuned", "loss")).text(),
            "parameters left": f"{share('parameters'):.0%}",
            "latency left": f"{share('milliseconds'):.0%}",
        })
    return Table(
        "folds",
        "Held-out accuracy in per cent, loss where it is finite: means over seeds, 95 % intervals",
        tuple(rows),
    )


def _linearity(runs: Sequence[Row]) -> Table:
    """Return a row for each network and state with R² of its layers."""
    rows = []
    for network, state in product(dict.fromkeys(row["network"] for row in runs), STATES):
        own = _own(runs, network)
        layers = {
            f"layer {place + 1}": effect_of([row[state]["r2"][name] for row in own]).text()
            for place, name in enumerate(own[0][state]["r2"])
        }
        taken = sorted(row["taken_at"][state] for row in own)
        rows.append({"network": network, "state": state, "median step": taken[len(taken) // 2], **layers})
    return Table(
        "linearity", "R² of the affine map that stands in for each layer, means with 95 % intervals", tuple(rows)
    )


def _loss_chart(config: Settings, runs: Sequence[Row], network: str) -> Chart:
    """Draw the losses with the places where layers were folded."""
    own = _own(runs, network)
    series = list(seed_curves({"median": own}))
    for group, state in enumerate(STATES, start=1):
        steps = [row["taken_at"][state] for row in own]
        values = [as_number(row["losses"][row["steps"].index(step)]) for row, step in zip(own, steps, strict=True)]
        series.append(Series(f"folded: {state}", tuple(step + 1.0 for step in steps), tuple(values), "points", group))
    caption = f"The plateau is the longest stretch of log steps over which the loss falls by at most {config.flat:.0%}."
    title = f"{network} of {config.depth} layers: where layers were folded"
    return loss_chart(f"{network}-loss", title, series, caption)


def _accuracy_chart(config: Settings, runs: Sequence[Row], network: str, state: str) -> Chart:
    """Draw held-out accuracy against the number of folded layers."""
    own, series = _own(runs, network), []
    x = tuple(map(float, config.counts))
    for group, (by, stage) in enumerate(product(("linear", "random"), ("after", "tuned"))):
        effects = [
            effect_of([100 * _mean(row, state, by, count, stage, "accuracy") for row in own]) for count in config.counts
        ]
        label = f"{'most linear' if by == 'linear' else 'random'}, {'folded' if stage == 'after' else 'tuned'}"
        low, high = tuple(effect.low for effect in effects), tuple(effect.high for effect in effects)
        spread = (low, high) if len(own) > 1 else ((), ())
        series.append(Series(label, x, tuple(effect.mean for effect in effects), "bold", group, *spread))
    before = fmean(100 * row[state]["before"]["accuracy"] for row in own)
    series.append(Series("before", (), (before,), "level"))
    return Chart(
        f"{network}-{state}",
        f"{network} at the {state}: accuracy after folding",
        "layers folded away",
        "held-out accuracy (per cent)",
        tuple(series),
        "Means over seeds; shaded: 95 % intervals.",
    )
