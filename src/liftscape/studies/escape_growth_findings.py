"""What the escape-growth study found, as claims, tables and charts."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite, log2
from statistics import median
from typing import Any

from liftscape.statistics import Effect, median_of
from liftscape.studies.escape_growth_settings import Settings
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table
from liftscape.studies.verdicts import as_number, verdict_of
from liftscape.training.step_counts import steps_to

__all__ = ["ARMS", "summarise"]

# Arm: what is done at the plateau. All but the last have the same final size.
ARMS = {
    "escape": "growth by escape",
    "identity": "an exact lift (identity growth)",
    "noise": "the exact lift with noise on the inserted layer",
    "random": "a random layer inserted",
    "scratch": "the final network from scratch, trained as long",
    "shallow": "no growth",
}
_SOURCE = "derived (theory 7)"
# Losses within this share of each other are called equal.
_SAME = 0.05
# As the legends of charts have room for.
_SHORT = dict(
    zip(ARMS, ("escape", "exact lift", "lift with noise", "random layer", "from scratch", "no growth"), strict=True)
)
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
    others = [arm for arm in ARMS if arm not in {"escape", "shallow"}]
    claims = [
        _fall(config, runs),
        *(_below(config, runs, arm, what) for what in ("training loss", "held-out loss") for arm in others),
        _stays(config, runs),
    ]
    return Findings(
        "escape-growth",
        "Does growth by escape train faster than other ways to make a stuck network deeper?",
        size,
        config.seeds,
        tuple(claims),
        (_finals(config, runs), _steps(config, runs)),
        tuple(_chart(config, runs, name) for name in _settings(config)),
    )


def _settings(config: Settings) -> list[str]:
    """Return data and optimizers, as in "iris, sgd"."""
    return [f"{name}, {optimizer}" for name, optimizer in product(config.data, config.optimizers)]


def _own(runs: Sequence[Row], setting: str) -> list[Row]:
    """Return the runs of one setting, by seed."""
    return [row for row in runs if f"{row['data']}, {row['optimizer']}" == setting]


def _number(row: Row, arm: str, what: str) -> float:
    """Return a final loss of one arm; one that is not a number is infinite."""
    value = as_number(row[arm]["losses"][-1] if what == "training loss" else row[arm]["held_out"])
    return value if value == value else float("inf")


def _ratio(row: Row, arm: str, what: str, to: str = "escape") -> float:
    """Return log₂ of one arm's final loss over another's."""
    own, other = _number(row, arm, what), max(_number(row, to, what), 1e-300)
    return log2(max(own, 1e-300) / other) if isfinite(own) and isfinite(other) else own - other


def _fall(config: Settings, runs: Sequence[Row]) -> Claim:
    """Judge whether every escape lowers the loss at once."""
    shares = {
        name: median_of([row["decrease"] / row["value"] for row in _own(runs, name)]) for name in _settings(config)
    }
    found = sum(row["status"] == "found" and row["decrease"] > 0 for row in runs)
    return Claim(
        "A layer bent past the boundary of its pieces lowers the loss of a stuck network at once.",
        _SOURCE,
        "the measured decrease is positive in every run",
        f"in {found} of {len(runs)} runs; share of the loss: "
        + "; ".join(f"{name} {effect.text(4)}" for name, effect in shares.items()),
        "holds" if found == len(runs) else "does not hold",
    )


def _below(config: Settings, runs: Sequence[Row], arm: str, what: str) -> Claim:
    """Judge whether growth by escape ends below another arm."""
    effects = {name: median_of([_ratio(row, arm, what) for row in _own(runs, name)]) for name in _settings(config)}
    return Claim(
        f"At equal steps and size growth by escape ends at a lower {what} than {ARMS[arm]}.",
        _SOURCE,
        "the 95 % interval of the median of log₂ of the other loss over its own is above 0",
        "log₂ of the ratio of losses: " + "; ".join(f"{name} {effect.text()}" for name, effect in effects.items()),
        verdict_of(effects.values(), 1),
    )


def _stays(config: Settings, runs: Sequence[Row]) -> Claim:
    """Judge whether an exact lift is as stuck as the shallow network."""
    effects = {
        name: median_of([_ratio(row, "shallow", "training loss", "identity") for row in _own(runs, name)])
        for name in _settings(config)
    }
    bound = log2(1 + _SAME)
    return Claim(
        "An exact lift stays as stuck as the network that it was made from.",
        _SOURCE,
        f"the shallow network's final training loss is at most {_SAME:.0%} above that of the exact lift",
        "log₂ of the ratio of losses: " + "; ".join(f"{name} {effect.text()}" for name, effect in effects.items()),
        verdict_of(effects.values(), -1, bound),
    )


def _finals(config: Settings, runs: Sequence[Row]) -> Table:
    """Return a row for each data set and arm."""
    rows = []
    for name in _settings(config):
        own = _own(runs, name)
        for arm, label in ARMS.items():
            final, held = (
                median_of([_number(row, arm, what) for row in own]) for what in ("training loss", "held-out loss")
            )
            rows.append({
                "setting": name,
                "at the plateau": label,
                "loss there": f"{median(row['value'] for row in own):.4g}",
                "right after": f"{median(as_number(row[arm]['losses'][0]) for row in own):.4g}",
                "final training loss": _text(final),
                "held-out loss": _text(held),
                "parameters": own[0][arm]["parameters"],
            })
    return Table("final", "Losses: medians over seeds, 95 % intervals of order statistics", tuple(rows))


def _steps(config: Settings, runs: Sequence[Row]) -> Table:
    """Return the steps after the plateau until the loss is a share of what it was there."""
    rows = []
    for name in _settings(config):
        own = _own(runs, name)
        for arm, label in ARMS.items():
            counts = {
                f"to {level:.0%} of the loss": [
                    steps_to(level * row["value"], row["steps"], list(map(as_number, row[arm]["losses"])))
                    for row in own
                ]
                for level in config.levels
            }
            reached = {
                title: f"{_text(median_of(values))} ({sum(map(isfinite, values))} of {len(values)})"
                for title, values in counts.items()
            }
            rows.append({"setting": name, "at the plateau": label, **reached})
    return Table(
        "steps",
        "Steps after the plateau, in which the network from scratch has trained as long; in brackets how many arrive",
        tuple(rows),
    )


def _text(effect: Effect) -> str:
    """Write a median with its interval in few digits."""
    if not isfinite(effect.low) and not isfinite(effect.high):
        return f"{effect.mean:.4g}"
    return f"{effect.mean:.4g} [{effect.low:.4g}, {effect.high:.4g}]"


def _chart(config: Settings, runs: Sequence[Row], name: str) -> Chart:
    """Draw the medians of the losses after the plateau."""
    own = _own(runs, name)
    x = tuple(step + 1.0 for step in own[0]["steps"])
    series = []
    for group, (arm, label) in enumerate(_SHORT.items()):
        curves = list(zip(*(map(as_number, row[arm]["losses"]) for row in own), strict=True))
        y = tuple(median(values) for values in curves)
        series.append(Series(label, x, y, "bold", group))
    return Chart(
        name.replace(", ", "-"),
        f"{name}: training loss after the plateau",
        "step after the plateau + 1",
        "training loss",
        tuple(series),
        f"Medians over {len(own)} seeds, after {config.before} steps, which the network from scratch has taken, too.",
        log_x=True,
        log_y=True,
    )
