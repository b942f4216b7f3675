"""What the data-size study found, as claims, tables and charts."""

from collections.abc import Callable, Mapping, Sequence
from math import log2, log10
from statistics import fmean
from typing import Any

from liftscape.statistics import Effect, effect_of
from liftscape.studies.data_size_settings import Settings
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table
from liftscape.studies.trainings import capped_steps, held_share, loss_chart, seed_curves
from liftscape.studies.verdicts import as_number, verdict_of

__all__ = ["MODES", "summarise"]

MODES = ("full batch", "minibatch", "on the manifold")
_SOURCE = "paper: more data against layer linearization"
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
    volumes = [row["shares"] for row in rows.values() if row["mode"] == "volume"]
    runs = [row for row in rows.values() if row["mode"] != "volume"]
    least, most = config.sizes[0], config.sizes[-1]
    free = MODES[:2]
    claims = (
        _exact_share(config, volumes),
        _judge(
            "More data leaves fewer neurons linear on all of it during training.",
            f"a smaller share of neurons on one piece with {most:,} samples than with {least:,}",
            f"share at {most:,} − share at {least:,}",
            {mode: _change(config, runs, mode, held_share) for mode in free},
        ),
        _judge(
            "With more data training takes fewer steps to the same training loss.",
            f"fewer steps with {most:,} samples than with {least:,}, at equal steps per epoch",
            f"log₂ of steps at {most:,} / steps at {least:,}",
            {
                f"{mode} to {level:g}": _change(
                    config, runs, mode, lambda row, level=level: log2(capped_steps(row, level, config.steps))
                )
                for mode in free
                for level in config.levels
            },
        ),
        _judge(
            f"From the manifold of {least:,} samples, training on more data leaves sooner.",
            f"fewer steps to {config.target:g} of the loss at the start with {most:,} samples",
            f"log₂ of steps at {most:,} / steps at {least:,}",
            {"on the manifold": _change(config, runs, "on the manifold", lambda row: log2(_leaving(config, row)))},
        ),
    )
    return Findings(
        "data-size",
        "Does more data shrink the lifted manifolds, and is that why training leaves them sooner?",
        size,
        config.seeds,
        claims,
        (_volume_table(config, volumes, runs), _training_table(config, runs)),
        (
            _volume_chart(config, volumes),
            _by_size(
                config,
                runs,
                "linear",
                "Linearised neurons",
                "share of neurons on one affine piece, mean over training and layers",
                held_share,
            ),
            _by_size(
                config,
                runs,
                "steps",
                f"Steps to a loss of {config.levels[-1]:g}",
                f"gradient steps ({config.steps} where never)",
                lambda row: capped_steps(row, config.levels[-1], config.steps),
                MODES[:2],
            ),
            *(_losses(config, runs, mode) for mode in MODES),
        ),
    )


def _of(runs: Sequence[Row], mode: str, n: int) -> list[Row]:
    """Return the trainings of one kind and size, by seed."""
    return [row for row in runs if row["mode"] == mode and row["n"] == n]


def _leaving(config: Settings, row: Row) -> float:
    """Return the steps from the start on the manifold to the target."""
    return capped_steps(row, config.target * row["losses"][0], config.steps)


def _change(config: Settings, runs: Sequence[Row], mode: str, value: Callable[[Row], float]) -> Effect:
    """Return by how much a value differs between the largest and the smallest data set, seed by seed."""
    pairs = zip(_of(runs, mode, config.sizes[-1]), _of(runs, mode, config.sizes[0]), strict=True)
    return effect_of([value(large) - value(small) for large, small in pairs])


def _judge(statement: str, expected: str, what: str, effects: Mapping[str, Effect]) -> Claim:
    """Judge a claim by whether the intervals lie below zero."""
    seen = "; ".join(f"{name} {effect.text()}" for name, effect in effects.items())
    verdict = verdict_of(effects.values(), -1)
    return Claim(statement, _SOURCE, f"{expected}: the 95 % interval is below 0", f"{what}: {seen}", verdict)


def _exact_share(config: Settings, volumes: Sequence[Sequence[float]]) -> Claim:
    """Judge the exact law of the volume."""
    effects = [effect_of([shares[place] * (n + 1) for shares in volumes]) for place, n in enumerate(config.sizes)]
    inside = [effect.low <= 1 <= effect.high for effect in effects]
    seen = "; ".join(f"n = {n:,}: {effect.text()}" for n, effect in zip(config.sizes, effects, strict=True))
    return Claim(
        "The volume of the lifted manifold falls as (n + 1)⁻ᵏ in its mean over one neuron's draws.",
        "derived (T6)",
        "(n + 1)·p(S) has mean 1: its 95 % interval over orders of the samples covers 1 for every n, or all but one",
        f"(n + 1)·p(S): {seen}",
        "holds" if sum(inside) >= len(inside) - (len(inside) > 2) else "does not hold",
    )


def _volume_table(config: Settings, volumes: Sequence[Sequence[float]], runs: Sequence[Row]) -> Table:
    """Return a row for each size."""
    rows = []
    for place, n in enumerate(config.sizes):
        shares = effect_of([each[place] for each in volumes])
        rows.append({
            "n": n,
            "p(S), measured": f"{shares.mean:.3g} [{shares.low:.3g}, {shares.high:.3g}]",
            "1/(n + 1)": f"{1 / (n + 1):.3g}",
            f"log₁₀ of p(S)ᵏ, k = {config.neurons}": f"{config.neurons * log10(shares.mean):.1f}"
            if shares.mean
            else "",
            f"margin of the lift for n = {config.sizes[0]}": effect_of([
                row["margin"] for row in _of(runs, "on the manifold", n)
            ]).text(),
            "its neurons still linear": effect_of([
                fmean(row["held"][0][1:]) for row in _of(runs, "on the manifold", n)
            ]).text(),
        })
    return Table("volume", "The lifted manifold against the number of samples, means with 95 % intervals", tuple(rows))


def _training_table(config: Settings, runs: Sequence[Row]) -> Table:
    """Return a row for each kind of training and size."""
    rows = []
    for mode in MODES:
        for n in config.sizes:
            own = _of(runs, mode, n)
            rows.append({
                "training": mode,
                "n": n,
                "neurons on one piece, mean": effect_of([held_share(row) for row in own]).text(),
                "at the end": effect_of([fmean(row["held"][-1]) for row in own]).text(),
                **{
                    f"steps to {level:g}": effect_of([capped_steps(row, level, config.steps) for row in own]).text(0)
                    for level in config.levels
                },
                f"steps to {config.target:g} of the start": effect_of([_leaving(config, row) for row in own]).text(0),
                "final loss": effect_of([as_number(row["losses"][-1]) for row in own]).text(3),
            })
    return Table("trainings", f"Means over seeds with 95 % intervals; {config.steps} steps where never", tuple(rows))


def _volume_chart(config: Settings, volumes: Sequence[Sequence[float]]) -> Chart:
    """Draw p(S) against n."""
    x = tuple(map(float, config.sizes))
    series = [
        Series("", x, tuple(share if share else float("nan") for share in shares), "faint", 0) for shares in volumes
    ]
    mean = tuple(fmean(shares[place] for shares in volumes) for place in range(len(x)))
    series += [
        Series("measured, mean over orders", x, mean, "bold", 0),
        Series("1/(n + 1)", x, tuple(1 / (n + 1) for n in x), "line", 1),
    ]
    return Chart(
        "volume",
        "Neurons that a random draw leaves linear",
        "number of samples n",
        "share p(S) of neurons active on all samples",
        tuple(series),
        "A neuron's weights are drawn, its threshold put at one further sample. The volume of a lifted manifold of k "
        "neurons is the k-th power. Faint: orders of the samples.",
        log_x=True,
        log_y=True,
    )


def _by_size(
    config: Settings,
    runs: Sequence[Row],
    name: str,
    title: str,
    y: str,
    value: Callable[[Row], float],
    modes: Sequence[str] = MODES,
) -> Chart:
    """Draw a value against n for each kind of training, with its interval."""
    series = []
    for group, mode in enumerate(modes):
        effects = [effect_of([value(row) for row in _of(runs, mode, n)]) for n in config.sizes]
        finite = all(effect.count > 1 for effect in effects)
        low = tuple(effect.low for effect in effects) if finite else ()
        high = tuple(effect.high for effect in effects) if finite else ()
        x = tuple(map(float, config.sizes))
        series.append(Series(mode, x, tuple(effect.mean for effect in effects), "bold", group, low, high))
    caption = "Means over seeds; shaded: 95 % intervals."
    return Chart(name, title, "number of samples n", y, tuple(series), caption, log_x=True)


def _losses(config: Settings, runs: Sequence[Row], mode: str) -> Chart:
    """Draw the losses of one kind of training, a colour for each size."""
    curves = seed_curves({f"n = {n:,}": _of(runs, mode, n) for n in config.sizes})
    return loss_chart(f"loss-{mode.replace(' ', '-')}", f"Training loss: {mode}", curves)
