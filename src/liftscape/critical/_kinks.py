"""How far the data are from the points where the network is not smooth."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from liftscape.critical._kink_calls import KinkCall, recorded_calls
from liftscape.functional import RandomRounding
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk
from liftscape.samples import Batch

__all__ = ["KinkMargin", "kink_margin"]

# A pre-activation is on a kink when rounding could have put it there: random rounding moves it so far, times this.
_ON_KINK, _BESIDE, _DRAWS = 16.0, 1e3, 3
_NUDGE = 1e-4


@dataclass(frozen=True)
class KinkMargin(Outcome):
    """The pre-activations nearest to a kink, over all samples and layers.

    Attributes:
        margin: smallest distance to a point where slopes differ; inf where there is none.
        layer: the module that calls the function, or "the loss"; None where there is none.
        on_kink: number of pre-activations on such a point, to rounding, that move with the parameters.
        curvature_margin: smallest distance to a point where only the curvature jumps, as for ELU at 0.
        curvature_layer: where it is found.
        on_curvature_kink: number of pre-activations on such a point.
        crossing: whether a pre-activation may cross a kink of either kind on the way to the displaced parameters.
        beside: whether one lies so close to a point where slopes differ that a thousand times rounding may part them.
        unlisted: operations on what depends on parameters that may have kinks of which nothing is known.
    """

    margin: float = inf
    layer: str | None = None
    on_kink: int = 0
    curvature_margin: float = inf
    curvature_layer: str | None = None
    on_curvature_kink: int = 0
    crossing: bool = False
    beside: bool = False
    unlisted: tuple[str, ...] = ()


def kink_margin(
    risk: EmpiricalRisk, displaced: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
) -> KinkMargin:
    """Return the smallest distance of any pre-activation on the data to a point where the function it enters is not C².

    Seen are all activations of torch.nn in every spelling (module, function, Tensor method), absolute values, bounds,
    comparisons, norms, and the larger of several, in the model and in the loss, batch by batch; what else is done with
    numbers that depend on parameters is compared with a list of smooth operations. A pre-activation that stays on its
    kink when all parameters move, such as one that is zero for every θ, does not make R non-smooth and is left out.

    Source: theory T5 (a), derived.

    Args:
        risk: the empirical risk; its model is left as it was.
        displaced: other parameters, towards which crossings are looked for.
        generator: source of the nudge that tells which pre-activations move; seed 0 when None.

    Returns:
        The margins with the layers in which they are found.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.fill_(0.25)
        >>> found = kink_margin(EmpiricalRisk(model, "mse", (torch.ones(3, 1), torch.ones(3, 1))))
        >>> found.margin, found.layer
        (1.25, '1')
    """
    own = risk.parameters
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    nudged = {name: tensor + _nudge(tensor, generator) for name, tensor in own.items()}
    found, unlisted = KinkMargin(), set()
    for batch in risk.batches:
        here = recorded_calls(risk, own, batch)
        unlisted |= here.unlisted
        if not here.calls:
            continue
        # Whether a way crosses a kink does not hang on rounding at its start.
        draws = _DRAWS if displaced is None else 0
        moved = _rounded(risk, own, batch, here.calls, draws)
        runs = [here.calls, recorded_calls(risk, nudged, batch).calls, moved]
        if displaced is not None:
            runs.append(recorded_calls(risk, displaced, batch).calls)
        for calls in zip(*runs, strict=False):
            found = _merge(found, *calls)
    return replace(found, unlisted=tuple(sorted(unlisted)))


def _rounded(
    risk: EmpiricalRisk, params: Mapping[str, Tensor], batch: Batch, calls: list[KinkCall], draws: int
) -> list[Tensor]:
    """Return how far rounding can move what each function read."""
    moved = [torch.zeros_like(call.values) for call in calls]
    for seed in range(draws):
        with RandomRounding(seed):
            again = recorded_calls(risk, params, batch).calls
        for index, (call, other) in enumerate(zip(calls, again, strict=False)):
            if call.values.shape == other.values.shape:
                moved[index] = torch.maximum(moved[index], (other.values - call.values).abs())
    return moved


def _nudge(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a small move of one parameter."""
    draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return (_NUDGE * (1 + tensor.abs().mean().cpu()) * draw).to(tensor)


def _merge(
    found: KinkMargin, call: KinkCall, nudged: KinkCall, moved: Tensor, displaced: KinkCall | None = None
) -> KinkMargin:
    """Take one call into account."""
    if call.values.shape != nudged.values.shape or not call.values.numel():
        return found
    fields = dict(vars(found))
    for point, order in call.orders.items():
        distance = (call.values - point).abs()
        # Rounding of the difference itself is exact near the point, but the point may be the bound of a computed one.
        rounding = _ON_KINK * moved + torch.finfo(moved.dtype).eps * abs(point)
        on = distance <= rounding
        left_out = on & ((nudged.values - point).abs() <= rounding)
        if call.smooth is not None:
            left_out |= call.smooth
        distance = distance.masked_fill(left_out, inf)
        if order == 1:
            fields["beside"] |= bool((~on & ~left_out & (distance <= _BESIDE * rounding)).any())
        nearest, kind = float(distance.min()), "" if order == 1 else "curvature_"
        if nearest < fields[f"{kind}margin"]:
            fields[f"{kind}margin"], fields[f"{kind}layer"] = nearest, call.name
        fields["on_kink" if order == 1 else "on_curvature_kink"] += int((on & ~left_out).sum())
        if displaced is not None and displaced.values.shape == call.values.shape:
            fields["crossing"] |= bool((distance <= 10 * (displaced.values - call.values).abs()).any())
    return KinkMargin(**fields)
