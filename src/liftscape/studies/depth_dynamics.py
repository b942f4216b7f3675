"""Deep networks trained from small weights, their plateaus, and the critical points of shallower networks."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from liftscape import data, nets
from liftscape.critical import find_critical_points
from liftscape.linearity import layer_linearity
from liftscape.risk import EmpiricalRisk
from liftscape.studies.depth_dynamics_plateaus import Level, find_plateaus, match
from liftscape.studies.depth_dynamics_settings import Settings
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table, Verdict
from liftscape.training import Ensemble, train_ensemble

__all__ = ["Settings", "run_task", "summarise", "tasks"]

# Draws of levels by chance, between the lowest and the highest loss.
_SHUFFLES = 200
_MOST = 0.9
_CURVES_SHOWN = 16
Row = Mapping[str, Any]


def tasks(config: Settings) -> list[str]:
    """Return one task for each data set and depth.

    Args:
        config: the settings.

    Returns:
        Their names, "data/depth".
    """
    return [f"{name}/{depth}" for name, depth in product(config.data, config.depths)]


def run_task(config: Settings, task: str) -> dict[str, Any]:
    """Train networks of one depth, find their plateaus, and match these with shallow critical points.

    Args:
        config: the settings.
        task: one of :func:`tasks`.

    Returns:
        Its row.
    """
    name, _, depth = task.partition("/")
    inputs, targets = _data(name)
    levels = [level for level, hidden in _levels(config, name) if hidden < int(depth)]
    recorded = range(0, config.steps + 1, config.record)
    made = train_ensemble(
        _maker(config, inputs, targets, int(depth)),
        (inputs, targets),
        "mse",
        starts=config.seeds,
        steps=config.steps,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        scale=config.scale,
        record=recorded,
        snapshots=recorded,
    )
    plateaus = [row for index in range(len(made)) for row in _plateaus(config, made, index, levels, inputs, targets)]
    return {
        "data": name,
        "depth": int(depth),
        "levels": [{"name": level.name, "value": level.value} for level in levels],
        "plateaus": plateaus,
        "chance": _by_chance(plateaus, made.losses, len(levels), config),
        "steps": list(made.steps),
        "curves": made.losses[:_CURVES_SHOWN].tolist(),
        "median": made.losses.median(dim=0).values.tolist(),
    }


def _data(name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets."""
    return data.iris_petal_width() if name == "iris" else data.curve(name, 40)


def _maker(config: Settings, inputs: Tensor, targets: Tensor, depth: int) -> Callable[[], nn.Module]:
    """Return a maker of deep tanh networks with zero biases."""
    widths = (inputs.shape[1], *[config.width] * depth, targets.shape[1])

    def make() -> nn.Module:
        model = nets.mlp(widths, "tanh")
        with torch.no_grad():
            for parameter in model.parameters():
                fan = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0
                parameter.copy_(fan * torch.randn_like(parameter))
        return model

    return make


# All depths of one data set meet the same shallow points.
@cache
def _levels(config: Settings, name: str) -> tuple[tuple[Level, int], ...]:
    """Return the critical points of the shallow networks, with the numbers of hidden layers."""
    inputs, targets = _data(name)
    found = []
    for hidden in config.shallow:
        widths = (inputs.shape[1], *hidden, targets.shape[1])
        risk = EmpiricalRisk(nets.mlp(widths, "tanh"), "mse", (inputs, targets))
        searched = find_critical_points(risk, starts=config.starts).points
        title = f"tanh {'-'.join(map(str, widths))}" if hidden else "linear"
        for place, point in enumerate(searched):
            with torch.no_grad():
                found.append((Level(f"{title} #{place + 1}", point.value, point.model(inputs)), len(hidden)))
    mean = targets.mean(dim=0, keepdim=True).expand_as(targets)
    found.append((Level("constant", float((targets - mean).square().mean()), mean), 0))
    return tuple(found)


def _plateaus(
    config: Settings, made: Ensemble, index: int, levels: Sequence[Level], inputs: Tensor, targets: Tensor
) -> list[dict[str, Any]]:
    """Return the plateaus of one training."""
    rows = []
    length = max(2, round(config.stretch * len(made.steps)))
    for plateau in find_plateaus(made.losses[index], config.flat, length):
        model = made.member(index, made.steps[plateau.middle])
        value, spread = float(made.losses[index, plateau.middle]), float(targets.std())
        with torch.no_grad():
            outputs = model(inputs)
        name = match(value, outputs, levels, config.loss_tolerance, config.output_tolerance, spread)
        rows.append({
            "seed": made.seeds[index],
            "first": made.steps[plateau.first],
            "last": made.steps[plateau.last],
            "value": value,
            "ends": plateau.last == len(made.steps) - 1,
            "matched": name,
            "near": any(abs(value / level.value - 1) <= config.loss_tolerance for level in levels),
            "r2": [row.r2 for row in layer_linearity(model, inputs).rows],
        })
    return rows


def _by_chance(plateaus: Sequence[Row], losses: Tensor, levels: int, config: Settings) -> float:
    """Return the share of plateaus whose loss would match as many levels, drawn evenly in log over all losses seen."""
    values = torch.tensor([row["value"] for row in plateaus], dtype=torch.float64)
    if not len(values) or not levels:
        return 0.0
    low, high = float(losses.min().log()), float(losses.max().log())
    draws = torch.rand(_SHUFFLES, levels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = (low + (high - low) * draws).exp()
    near = (values[None, :, None] / drawn[:, None, :] - 1).abs() <= config.loss_tolerance
    return float(near.any(dim=2).double().mean())


def summarise(config: Settings, size: str, rows: Mapping[str, Row]) -> Findings:
    """Return claims, table and charts.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    every = list(rows.values())
    claims = tuple(_claim(name, [row for row in every if row["data"] == name]) for name in config.data)
    table = Table("plateaus", "Plateaus by data and depth", tuple(_row(row) for row in every))
    charts = [_curves(config, row) for row in every]
    return Findings(
        "depth-dynamics",
        "Do deep networks on their way stay at critical points of shallower ones?",
        size,
        config.seeds,
        claims,
        (table,),
        (*charts, _shares(every)),
    )


def _claim(name: str, rows: Sequence[Row]) -> Claim:
    """Judge one data set by the share of plateaus whose loss is a critical value, against levels drawn at random."""
    way = [(row["chance"], plateau) for row in rows for plateau in row["plateaus"] if not plateau["ends"]]
    count = max(1, len(way))
    both = sum(bool(plateau["matched"]) for _, plateau in way) / count
    loss = sum(plateau["near"] for _, plateau in way) / count
    chance = sum(share for share, _ in way) / count
    verdict: Verdict = "undecided"
    if way:
        beyond = loss - chance > 3 * (chance * (1 - chance) / count) ** 0.5
        verdict = "does not hold" if not beyond else "holds" if both > _MOST else "holds under these conditions"
    return Claim(
        f"On their way, deep networks trained from small weights stay at critical points of shallower ones: {name}.",
        "paper: what the embedding principle means for training",
        f"over {_MOST:.0%} of the plateaus match in loss and outputs, and more in loss than random levels would",
        f"of {len(way)} plateaus before the end {both:.0%} match in loss and outputs, {loss:.0%} in loss alone, where "
        f"levels drawn at random match {chance:.0%}",
        verdict,
    )


def _row(row: Row) -> dict[str, Any]:
    """Return one data set and depth as a row."""
    way = [plateau for plateau in row["plateaus"] if not plateau["ends"]]
    matched = [plateau for plateau in way if plateau["matched"]]
    names = sorted({plateau["matched"] for plateau in matched})
    r2 = [min(plateau["r2"]) for plateau in matched if plateau["r2"]]
    ends = [plateau for plateau in row["plateaus"] if plateau["ends"]]
    return {
        "data": row["data"],
        "hidden layers": row["depth"],
        "plateaus on the way": len(way),
        "matched": f"{len(matched)} ({len(matched) / len(way):.0%})" if way else "0",
        "in loss alone": f"{sum(plateau['near'] for plateau in way) / max(1, len(way)):.0%}",
        "in loss by chance": f"{row['chance']:.0%}",
        "critical points met": ", ".join(names) or "none",
        "median of the least R² of a layer there": f"{sorted(r2)[len(r2) // 2]:.3f}" if r2 else "",
        "ends on a plateau": len(ends),
        "of these matched": sum(bool(plateau["matched"]) for plateau in ends),
    }


def _curves(config: Settings, row: Row) -> Chart:
    """Draw the losses of one data set and depth with the shallow levels that were met."""
    steps = tuple(float(step) for step in row["steps"])
    series = [
        Series("seeds" if index == 0 else "", steps, tuple(curve), "faint", 0)
        for index, curve in enumerate(row["curves"])
    ]
    series.append(Series("median", steps, tuple(row["median"]), "bold", 0))
    met = [plateau["matched"] for plateau in row["plateaus"] if plateau["matched"]]
    often = sorted(set(met), key=met.count, reverse=True)[:4]
    series += [
        Series(level["name"], (), (level["value"],), "level") for level in row["levels"] if level["name"] in often
    ]
    return Chart(
        f"{row['data']}-{row['depth']}",
        f"{row['data']}, {row['depth']} hidden layers",
        "gradient step",
        "training loss (mean squared error)",
        tuple(series),
        f"Training losses of {len(row['curves'])} of {config.seeds} networks and the median of all; dashed, the "
        "critical values of shallower networks that plateaus matched most often.",
        log_y=True,
    )


def _shares(rows: Sequence[Row]) -> Chart:
    """Draw the matched share against depth, with the share expected by chance."""
    series = []
    for group, name in enumerate(dict.fromkeys(row["data"] for row in rows)):
        own = [row for row in rows if row["data"] == name]
        x = tuple(float(row["depth"]) for row in own)
        way = [[plateau for plateau in row["plateaus"] if not plateau["ends"]] for row in own]
        shares = tuple(sum(bool(plateau["matched"]) for plateau in each) / max(1, len(each)) for each in way)
        spread = [2 * (share * (1 - share) / max(1, len(each))) ** 0.5 for share, each in zip(shares, way, strict=True)]
        low = tuple(share - width for share, width in zip(shares, spread, strict=True))
        high = tuple(share + width for share, width in zip(shares, spread, strict=True))
        series.append(Series(f"{name}, matched", x, shares, "bold", group, low, high))
        series.append(Series(f"{name}, by chance", x, tuple(row["chance"] for row in own), "faint", group))
    return Chart(
        "shares",
        "Plateaus that match a shallow critical point",
        "hidden layers of the trained network",
        "share of the plateaus before the end",
        tuple(series),
        "Bold: matched in loss and outputs, with two standard errors. Faint: what levels drawn at random would match "
        "in loss alone.",
    )
