"""From the worse minima of the demo over the boundary of the lifted manifold, and on by training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from liftscape.activations import as_module
from liftscape.embedding import lift
from liftscape.escaping import escape
from liftscape.samples import Batch
from liftscape.studies.embedding_principle_config import EscapeConfig
from liftscape.studies.embedding_principle_escape_records import EscapedPoint, EscapeStudy
from liftscape.studies.embedding_principle_lifts import CriticalPoint
from liftscape.studies.embedding_principle_search import WORSE
from liftscape.training import GrowthSchedule

__all__ = ["escape_and_train"]


def escape_and_train(
    minima: Sequence[CriticalPoint], data: Batch, config: EscapeConfig, generator: torch.Generator
) -> EscapeStudy:
    """Leave the minima that are worse than another of their network, train on, and train exact lifts beside them.

    Where the loss stands again, another layer is inserted in the same way.

    Args:
        minima: the shallow minima.
        data: inputs and targets.
        config: the inserted layer and the training.
        generator: of the escapes and the lifts.

    Returns:
        Losses on the way and in training.
    """
    best = min(minima, key=lambda point: point.record.value)
    worse = [point for point in minima if point.record.role == WORSE]
    points = [_escaped(point, data, config, generator) for point in worse]
    return EscapeStudy(
        best.record.label,
        best.record.value,
        config.width,
        config.neurons,
        type(as_module(config.activation)).__name__,
        tuple(range(0, config.steps + 1, config.every)),
        tuple(points),
    )


def _escaped(point: CriticalPoint, data: Batch, config: EscapeConfig, generator: torch.Generator) -> EscapedPoint:
    """Leave one minimum."""
    risk = point.risk
    shape = {"width": config.width, "activation": config.activation}
    how = shape | {"neurons": config.neurons, "ridge": config.ridge}
    found = escape(risk, generator=generator, **how)
    lifted = lift(risk.model, data[0], found.site, generator=generator, **shape).model
    growth = GrowthSchedule(risk, layers=config.further_layers, patience=config.patience, generator=generator, **how)
    still = GrowthSchedule(risk, layers=0)
    path = [place / (config.points - 1) for place in range(config.points)]
    walked = [] if found.path is None else [float(risk.with_model(found.path(t)).value()) for t in path]
    return EscapedPoint(
        point.record.label,
        point.record.network,
        point.record.value,
        found.site,
        found.predicted_decrease,
        found.decrease,
        1.0 if found.path is None else found.path.boundary,
        tuple(path[: len(walked)]),
        tuple(walked),
        tuple(_trained(found.model, growth, data, config)),
        tuple(_trained(lifted, still, data, config)),
        tuple(attempt.step for attempt in growth.attempts if attempt.escape.status == "found"),
    )


def _trained(model: nn.Module, growth: GrowthSchedule, data: Batch, config: EscapeConfig) -> list[float]:
    """Train on all data, growing where the schedule says so, and return the losses that are recorded."""
    inputs, targets = data
    rule: Optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    losses: list[float] = []
    for step in range(config.steps + 1):
        loss: Tensor = growth.risk.loss(model(inputs), targets)
        if step % config.every == 0:
            losses.append(float(loss.detach()))
        rule.zero_grad()
        loss.backward()
        rule.step()
        model, rule = growth.step(model, rule, float(loss.detach()))
    return losses
