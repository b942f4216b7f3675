"""What the in-the-wild study found, as claims, tables and heat maps."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from liftscape.statistics import effect_of
from liftscape.studies.findings import Chart, Claim, Findings, HeatMap, Table, Verdict
from liftscape.studies.in_the_wild_settings import Settings
from liftscape.studies.layer_maps import layer_map
from liftscape.studies.trainings import loss_chart, seed_curves
from liftscape.studies.verdicts import verdict_of

__all__ = ["TRAINED", "summarise"]

TRAINED = "trained mnist cnn"
_SOURCE = "paper: layer linearization in trained networks"
Row = Mapping[str, Any]


def summarise(config: Settings, size: str, rows: Mapping[str, Row]) -> Findings:
    """Return claims, tables and heat maps.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    own = {
        name: [row for row in rows.values() if row["network"] == name] for name in config.networks if name != TRAINED
    }
    trained = next((row for row in rows.values() if row["network"] == TRAINED), None)
    tables = [_layers(own)]
    if trained is not None:
        tables.append(_trained(trained))
        if "folded" in trained:
            tables.append(_folded(trained))
    return Findings(
        "in-the-wild",
        "How linear are the layers of networks as they are used, over training and at the end?",
        size,
        config.seeds,
        (_changes(own), _exactly_linear(own, trained), *(() if trained is None else (_foldable(trained),))),
        tuple(tables),
        tuple(chart for name, runs in own.items() for chart in (_losses(name, runs), *_maps(name, runs))),
    )


def _least(row: Row, record: int) -> float:
    """Return the smallest |ρ| of a layer, averaged over layers."""
    return fmean(value for value in row["correlation"][record] if value is not None)


def _changes(own: Mapping[str, Sequence[Row]]) -> Claim:
    """Judge whether layers lose linearity in training."""
    effects = {name: effect_of([_least(row, -1) - _least(row, 0) for row in runs]) for name, runs in own.items()}
    verdict = verdict_of(effects.values(), -1)
    seen = "; ".join(f"{name} {effect.text()}" for name, effect in effects.items())
    return Claim(
        "Training makes layers less linear than they were at the start.",
        _SOURCE,
        "the smallest |ρ| of a layer's neurons, averaged over layers, falls: the 95 % interval is below 0",
        f"at the end − at the start: {seen}",
        verdict,
    )


def _exactly_linear(own: Mapping[str, Sequence[Row]], trained: Row | None) -> Claim:
    """Judge whether trained networks hold layers that are exactly linear on their data."""
    ends = {name: [share for row in runs for share in row["held"][-1]] for name, runs in own.items()}
    if trained is not None and "missing" not in trained:
        ends[TRAINED] = trained["held"]
    counts = {name: sum(share == 1 for share in shares) for name, shares in ends.items()}
    held = [count > 0 for count in counts.values()]
    verdict: Verdict = "holds" if all(held) else "holds under these conditions" if any(held) else "does not hold"
    seen = "; ".join(
        f"{name} {counts[name]} of {len(shares)}, largest share of neurons on one piece {max(shares):.2f}"
        for name, shares in ends.items()
    )
    return Claim(
        "Trained networks hold layers that are exactly linear on their data.",
        _SOURCE,
        "in each network one layer or more whose neurons all stay on one affine piece",
        seen + (f"; {TRAINED}: {trained['missing']}" if trained is not None and "missing" in trained else ""),
        verdict,
    )


def _foldable(trained: Row) -> Claim:
    """Judge whether a layer leaves the trained network within the budget."""
    verdict: Verdict = "undecided"
    seen = f"{TRAINED}: {trained.get('missing', '')}"
    if "folded" in trained:
        inside = [step for step in trained["folded"] if step["within"]]
        first, last = trained["folded"][0], min(inside, key=lambda step: step["operations"])
        verdict = "holds" if last is not first else "does not hold"
        seen = (
            f"layer {last['activation'] or 'none'} of the {TRAINED} leaves: accuracy {100 * first['held_out']:.2f} % "
            f"to {100 * last['held_out']:.2f} % on 10,000 test images, parameters {first['parameters']:,} to "
            f"{last['parameters']:,}"
        )
    return Claim(
        "A network that others trained holds a layer that one affine map can stand in for.",
        "derived (theory 5)",
        "a layer folds away by least squares within half a point of accuracy",
        seen,
        verdict,
    )


def _layers(own: Mapping[str, Sequence[Row]]) -> Table:
    """Return a row for each layer."""
    rows = []
    for name, runs in own.items():
        for place, layer in enumerate(runs[0]["names"]):
            value = lambda key, record, runs=runs, place=place: effect_of([
                row[key][record][place] for row in runs if row[key][record][place] is not None
            ]).text()
            rows.append({
                "network": name,
                "layer": layer,
                "on one piece at the start": value("held", 0),
                "at the end": value("held", -1),
                "least |ρ| at the start": value("correlation", 0),
                "at the end ": value("correlation", -1),
                "held-out accuracy": effect_of([row["accuracy"] for row in runs]).text(3) if place == 0 else "",
            })
    return Table("layers", "Shares of neurons and correlations, means over seeds with 95 % intervals", tuple(rows))


def _trained(row: Row) -> Table:
    """Return the layers of the trained network, or how to get it."""
    title = "A CNN that others trained, on the 10,000 test images of MNIST"
    if "missing" in row:
        return Table("trained", title, ({"network": TRAINED, "layers": row["missing"]},))
    rows = tuple(
        {
            "layer": name,
            "neurons": row["neurons"][place],
            "on one piece": f"{row['held'][place]:.3f}",
            "dead": row["dead"][place],
            "least |ρ|": f"{row['correlation'][place]:.3f}",
            "R² of the map in its place": "" if row["r2"][place] is None else f"{row['r2'][place]:.3f}",
        }
        for place, name in enumerate(row["names"])
    )
    return Table("trained", title, rows)


def _folded(row: Row) -> Table:
    """Return what folding the trained network costs and saves."""
    rows = tuple(
        {
            "layer folded away": step["activation"] or "none",
            "how": step["how"],
            "accuracy on the test images": f"{100 * step['held_out']:.2f} %",
            "parameters": step["parameters"],
            "multiplications for an image": step["operations"],
        }
        for step in row["folded"]
    )
    title = f"Its layers folded by least squares on {row['calibration']:,} training images"
    return Table("folded", title, rows)


def _losses(name: str, runs: Sequence[Row]) -> Chart:
    """Draw the losses."""
    return loss_chart(f"{_key(name)}-loss", f"{name}: loss", seed_curves({"median": runs}))


def _maps(name: str, runs: Sequence[Row]) -> list[HeatMap]:
    """Draw layer against step."""
    drawn = [layer_map(name, runs, runs[0]["names"], key) for key in ("correlation", "held")]
    return [each for each in drawn if each is not None]


def _key(name: str) -> str:
    """Return a name that a file may have."""
    return name.replace(" ", "-")
