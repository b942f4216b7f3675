"""The best neurons at one site, chosen one after the other, their out-weights all together."""

from dataclasses import dataclass, replace
from math import inf
from typing import final

import torch
from torch import Tensor

from liftscape.escaping._affine_rows import collect_rows, extremes
from liftscape.escaping._crossings import Crossing
from liftscape.escaping._decrease_prediction import Prediction, move_of, predict
from liftscape.escaping._neuron_directions import Neuron, best_neuron
from liftscape.escaping._refusals import separable_share
from liftscape.escaping._start import Layout
from liftscape.risk import EmpiricalRisk
from liftscape.sites import Site

__all__ = ["Candidate", "search_site"]

# Pre-activations of a neuron that crosses a kink reach so far from it, where its pieces are as long.
_REACH = 1.0
_ROOM = 0.9


@final
@dataclass(frozen=True)
class Candidate:
    """The best neurons found at a site.

    Attributes:
        layout: of the layer.
        neurons: that leave.
        low: smallest a_j·h on the data, (p,).
        high: largest.
        prediction: what they do.
        rows: samples, or places of all samples.
        searched: how many of them were searched.
        share: how far rows with the same features do not cancel, see :func:`separable_share`.
    """

    layout: Layout
    neurons: list[Neuron]
    low: Tensor
    high: Tensor
    prediction: Prediction
    rows: int
    searched: int
    share: float


def search_site(
    risk: EmpiricalRisk,
    layout: Layout,
    starts: int,
    ridge: float,
    memory_budget: int,
    generator: torch.Generator,
) -> Candidate:
    """Choose the neurons that leave at one site: each for the gradient that those before it left over.

    Costs six passes over the data, four of them backward, and three more for each further neuron; the kept features
    and gradients, n·(m + D) numbers, are drawn uniformly where they do not fit the budget.

    Args:
        risk: the empirical risk.
        layout: of the layer.
        starts: how many directions ascend.
        ridge: as for :func:`liftscape.escape`.
        memory_budget: bytes for features, gradients and projections.
        generator: of the starts and of the rows that are kept.

    Returns:
        The candidate.
    """
    site, crossing = layout.site, layout.crossing
    limit = max(2, memory_budget // (8 * (2 * (site.in_features + site.out_features) + 6 * starts)))
    chosen: list[Neuron] = []
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    prediction = None
    rows, share = None, 0.0
    for _ in layout.leaving:
        move = None if prediction is None else move_of(chosen, crossing, prediction.out_weights)
        own = collect_rows(risk, site.name, limit, generator, move)
        if rows is None:
            rows, share = own, separable_share(own.h, own.g)
        neuron, low, high = _placed(risk, site, crossing, best_neuron(own.h, own.g, crossing, starts, generator, ridge))
        chosen.append(neuron)
        lows.append(low)
        highs.append(high)
        prediction = predict(risk, site, crossing, chosen, ridge)
    assert rows is not None
    assert prediction is not None
    return _balanced(
        Candidate(layout, chosen, torch.cat(lows), torch.cat(highs), prediction, rows.total, len(rows.h), share)
    )


def _balanced(found: Candidate) -> Candidate:
    """Share out the scale of neurons that cross from half-line to half-line: as much before the kink as after it."""
    # Gradient descent keeps the difference of both, so that a neuron with all of it on one side trains slowly.
    crossing, prediction = found.layout.crossing, found.prediction
    spread = (found.high - found.low) / 4
    factor = (prediction.out_weights.cpu().norm(dim=1) / spread).sqrt()
    if not crossing.is_kink or crossing.room < inf or not bool((torch.isfinite(factor) & (factor > 0)).all()):
        return found
    neurons = [
        Neuron(float(q) * own.direction, crossing.end + float(q) * (own.bias - crossing.end), own.gain)
        for own, q in zip(found.neurons, factor, strict=True)
    ]
    weights = prediction.out_weights / factor.to(prediction.out_weights)[:, None]
    return replace(
        found,
        neurons=neurons,
        low=factor * found.low,
        high=factor * found.high,
        prediction=replace(prediction, out_weights=weights),
    )


def _placed(risk: EmpiricalRisk, site: Site, crossing: Crossing, neuron: Neuron) -> tuple[Neuron, Tensor, Tensor]:
    """Scale a neuron about a kink so that it stays on the two pieces; return the ends of a·h, too."""
    low, high = extremes(risk.model, site.name, risk.batches, neuron.direction[None])
    if not crossing.is_kink:
        return neuron, low, high
    reach = max(abs(float(end) + neuron.bias - crossing.end) for end in (low, high))
    scale = min(_REACH, _ROOM * crossing.room) / reach if reach else 1.0
    bias = crossing.end + scale * (neuron.bias - crossing.end)
    return Neuron(scale * neuron.direction, bias, neuron.gain), scale * low, scale * high
