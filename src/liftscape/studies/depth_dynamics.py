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
from liftscape.studies.depth_dynamics_findings import summarise
from liftscape.studies.depth_dynamics_settings import Settings
from liftscape.training import Ensemble, train_ensemble
from liftscape.training.plateaus import Level, find_plateaus, match

__all__ = ["Settings", "run_task", "summarise", "tasks"]

# Draws of levels by chance, between the lowest and the highest loss.
_SHUFFLES = 200
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


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train networks of one depth, find their plateaus, and match these with shallow critical points.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where networks are trained; they are compared with the shallow ones on the CPU.

    Returns:
        Its row.
    """
    name, _, depth = task.partition("/")
    inputs, targets = _data(name)
    levels = [level for level, hidden in _levels(config, name) if hidden < int(depth)]
    recorded = range(0, config.steps + 1, config.record)
    made = train_ensemble(
        _maker(config, inputs, targets, int(depth), device),
        "mse",
        (inputs.to(device), targets.to(device)),
        starts=config.seeds,
        steps=config.steps,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        scale=config.scale,
        record=recorded,
        snapshots=recorded,
    )
    losses = made.losses.cpu()
    plateaus = [
        row
        for index in range(len(made))
        for row in _plateaus(config, made, losses[index], index, levels, inputs, targets)
    ]
    return {
        "data": name,
        "depth": int(depth),
        "levels": [{"name": level.name, "value": level.value} for level in levels],
        "plateaus": plateaus,
        "chance": _by_chance(plateaus, losses, len(levels), config),
        "steps": list(made.steps),
        "curves": losses[:_CURVES_SHOWN].tolist(),
        "median": losses.median(dim=0).values.tolist(),
    }


def _data(name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets."""
    return data.iris_petal_width() if name == "iris" else data.curve(name, 40)


def _maker(
    config: Settings, inputs: Tensor, targets: Tensor, depth: int, device: torch.device
) -> Callable[[], nn.Module]:
    """Return a maker of deep tanh networks with zero biases."""
    widths = (inputs.shape[1], *[config.width] * depth, targets.shape[1])

    def make() -> nn.Module:
        model = nets.mlp(widths, "tanh")
        with torch.no_grad():
            for parameter in model.parameters():
                fan = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0
                parameter.copy_(fan * torch.randn_like(parameter))
        return model.to(device)

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
    config: Settings,
    made: Ensemble,
    losses: Tensor,
    index: int,
    levels: Sequence[Level],
    inputs: Tensor,
    targets: Tensor,
) -> list[dict[str, Any]]:
    """Return the plateaus of one training."""
    rows = []
    length = max(2, round(config.stretch * len(made.steps)))
    for plateau in find_plateaus(losses, config.flat, length):
        model = made.member(index, made.steps[plateau.middle]).cpu()
        value, spread = float(losses[plateau.middle]), float(targets.std())
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
