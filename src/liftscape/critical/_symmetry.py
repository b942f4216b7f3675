"""Zeros of the Hessian that every network of an architecture has: tangents of its symmetries."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import exp

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.critical._field import Field, field_at
from liftscape.critical._symmetry_draws import Draw, Product, drawn, input_variances, vanishes
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["Symmetries", "symmetry_tangents"]

# R is compared with itself along the flow that starts at θ, at these times.
_TIMES = (1.0, 1e-1, 1e-2, 1e-4, 1e-6)
_ROUNDINGS = 10.0

_Flow = Callable[[float], dict[str, Tensor]]
# A name, the tangent at θ by parameter, and the parameters that its flow has moved after a time; None where it is a
# straight line.
_Tangent = tuple[str, dict[str, Tensor], _Flow | None]


@dataclass(frozen=True)
class Symmetries(Outcome):
    """Tangents v of symmetries at θ, along whose flow R does not change.

    Attributes:
        tangents: (M, s), columns of length one, not necessarily independent.
        names: which symmetry each column belongs to, such as ``"rescaling between 0 and 2"``.
    """

    tangents: Float[Tensor, "M s"]
    names: tuple[str, ...]


def symmetry_tangents(risk: EmpiricalRisk, generator: torch.Generator | None = None) -> Symmetries:
    """Return the tangents at θ of the known symmetries that R really has.

    Candidates, for every Linear z = Wh + b: a common shift of all rows, which softmax and LayerNorm do not see (width
    of h + 1); (w_i, b_i) += ε(w_j, b_j) against the columns of another Linear, which is the rescaling of positively
    homogeneous neurons for i = j (one a neuron) and all of GL(k) where no activation lies between; before BatchNorm in
    training mode the shift of b_j and the scale of w_j with the γ_j that makes up for eps (two a channel); and
    parameters without effect. A field v is kept iff ∇R(θ′)·v(θ′) = 0 to rounding, entry by entry, at θ′ drawn far from
    θ and at distances from 1 to 10⁻¹² of it, and R stays the same along the flow that starts at θ; then
    ∇²R(θ) v(θ) = 0 wherever θ is critical.

    Source: Kunin et al. 2021 (arXiv 2012.04728), section 3: translation, scale and rescale symmetry; theory T4.

    Args:
        risk: the empirical risk; its model is left as it was.
        generator: source of θ′, on the CPU; seed 0 when None.

    Returns:
        The tangents with their names.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
        >>> x = torch.eye(4, 2, dtype=torch.float64) + 0.1
        >>> found = symmetry_tangents(EmpiricalRisk(model, "cross_entropy", (x, torch.tensor([0, 1, 1, 0]))))
        >>> sorted(set(found.names)), found.tangents.shape
        (['common shift of 2', 'rescaling between 0 and 2'], torch.Size([17, 7]))
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    here, field = risk.parameters, field_at(risk)
    draws = drawn(risk, field, generator)
    found: list[_Tangent] = []
    if draws:
        maps = _linear_maps(risk.model, here)
        for name, keys in maps.items():
            found += _shifts(name, keys, here, draws)
            for other, other_keys in maps.items():
                found += _rescalings((name, other), keys, other_keys, here, draws)
            found += _normalised(risk, name, keys, draws)
        found += _without_effect(here, draws)
    found = _kept_along_flows(field, found, here)
    columns = [_flat(parts, here) for _, parts, _ in found]
    names = [name for (name, _, _), column in zip(found, columns, strict=True) if float(column.norm()) > 0]
    columns = [column / column.norm() for column in columns if float(column.norm()) > 0]
    stacked = torch.stack(columns, dim=1) if columns else risk.flatten().new_zeros(risk.size, 0)
    return Symmetries(stacked, tuple(names))


def _kept_along_flows(field: Field, found: list[_Tangent], here: Mapping[str, Tensor]) -> list[_Tangent]:
    """Leave out fields along whose flow from θ R changes: there large terms that cancel elsewhere may vanish."""
    if not found:
        return found
    times = [sign * time for time in _TIMES for sign in (1, -1)]
    flat = [
        _flat({**here, **({} if flow is None else flow(time))}, here)
        + (0.0 if flow is not None else time * _flat(parts, here))
        for _, parts, flow in found
        for time in times
    ]
    thetas = torch.stack([field.theta, *flat])
    values, noise = field.values(thetas), field.value_noise(thetas)
    same = ((values - values[0]).abs() <= _ROUNDINGS * (noise + noise[0]))[1:].reshape(len(found), -1).all(dim=1)
    return [tangent for tangent, keeps in zip(found, same.tolist(), strict=True) if keeps]


def _rescaled(here: Mapping[str, Tensor], first: tuple[str, str | None], last: str, neuron: int) -> _Flow:
    """Return the flow that scales a neuron's in-weights by eᵗ and its out-weights by e⁻ᵗ."""

    def flow(time: float) -> dict[str, Tensor]:
        moved = {key: here[key].clone() for key in (*first, last) if key is not None}
        for key in first:
            if key is not None:
                moved[key][neuron] *= exp(time)
        moved[last][:, neuron] *= exp(-time)
        return moved

    return flow


def _scaled(here: Mapping[str, Tensor], weight: str, gamma: str, neuron: int, variance: float, eps: float) -> _Flow:
    """Return the flow that scales a neuron before a BatchNorm by eᵗ, with the γ that makes up for eps."""

    def flow(time: float) -> dict[str, Tensor]:
        moved = {key: here[key].clone() for key in (weight, gamma)}
        moved[weight][neuron] *= exp(time)
        moved[gamma][neuron] *= ((exp(2 * time) * variance + eps) / (variance + eps)) ** 0.5 * exp(-time)
        return moved

    return flow


def _linear_maps(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, tuple[str, str | None]]:
    """Return the names of weight and bias of each Linear whose parameters are all trained."""
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    maps: dict[str, tuple[str, str | None]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) in names:
            weight, bias = names[id(module.weight)], None if module.bias is None else names.get(id(module.bias))
            if weight in params and (module.bias is None or bias in params):
                maps[name] = (weight, bias)
    return maps


def _shifts(name: str, keys: tuple[str, str | None], here: Mapping[str, Tensor], draws: list[Draw]) -> list[_Tangent]:
    """Return the common shifts W += 1uᵀ, b += s1 that R does not see."""
    found: list[_Tangent] = []
    for key in keys:
        if key is not None and here[key].shape[0] > 1:
            sums = [
                Product(g.sum(dim=0), g.abs().sum(dim=0), draw.noise[key].sum(dim=0))
                for draw in draws
                for g in (draw.gradient[key],)
            ]
            for index in torch.nonzero(vanishes(sums)):
                shift = torch.zeros_like(here[key])
                shift[:, *index.tolist()] = 1.0
                found.append((f"common shift of {name}", {key: shift}, None))
    return found


def _rescalings(
    pair: tuple[str, str],
    first: tuple[str, str | None],
    last: tuple[str, str | None],
    here: Mapping[str, Tensor],
    draws: list[Draw],
) -> Iterator[_Tangent]:
    """Yield the tangents (E_ij A, −B E_ij) of (GA, BG⁻¹) that R does not see, A with its bias as a column."""
    A, B = _rows(first, here), here[last[0]]
    if set(first) & {last[0]} or B.shape[1] != A.shape[0]:
        return
    products = []
    for draw in draws:
        rows, weight = _rows(first, draw.params), draw.params[last[0]]
        ahead, back = _rows(first, draw.gradient), draw.gradient[last[0]]
        moved = (_rows(first, draw.noise), draw.noise[last[0]])
        products.append(
            Product(
                ahead @ rows.T - weight.T @ back,
                ahead.abs() @ rows.abs().T + weight.abs().T @ back.abs(),
                moved[0] @ rows.abs().T + weight.abs().T @ moved[1],
            )
        )
    for i, j in torch.nonzero(vanishes(products)).tolist():
        parts = {key: torch.zeros_like(here[key]) for key in (*first, last[0]) if key is not None}
        for key in first:
            if key is not None:
                parts[key][i] = here[key][j]
        parts[last[0]][:, j] = -B[:, i]
        # For i ≠ j the group acts by a shear, whose flow is the straight line.
        flow = _rescaled(here, first, last[0], i) if i == j else None
        yield f"rescaling between {pair[0]} and {pair[1]}", parts, flow


def _rows(keys: tuple[str, str | None], values: Mapping[str, Tensor]) -> Float[Tensor, "out features"]:
    """Return a map's weight with its bias as the last column."""
    weight, bias = keys
    return values[weight] if bias is None else torch.cat([values[weight], values[bias][:, None]], dim=1)


def _normalised(risk: EmpiricalRisk, name: str, keys: tuple[str, str | None], draws: list[Draw]) -> Iterator[_Tangent]:
    """Yield the shifts and scales of a map that a BatchNorm in training mode takes away."""
    here, (weight, bias) = risk.parameters, keys
    for norm, variance in input_variances(risk, here).items():
        module, gamma = risk.model.get_submodule(norm), f"{norm}.weight"
        width = here[weight].shape[0]
        if not isinstance(module, nn.BatchNorm1d) or len(variance) != width:
            continue
        if bias is not None:
            # A BatchNorm takes the mean off entry by entry: the slope is a sum over samples that cancels to rounding.
            slopes = [
                Product(draw.gradient[bias], torch.zeros_like(draw.gradient[bias]), draw.noise[bias]) for draw in draws
            ]
            for index in torch.nonzero(vanishes(slopes)).flatten():
                yield f"shift of {name} before {norm}", {bias: _unit(here[bias], index)}, None
        if gamma in here:
            products = [_scale_product(draw, weight, gamma, norm, module.eps) for draw in draws]
            for index in torch.nonzero(vanishes(products)).flatten():
                scaled = torch.zeros_like(here[weight]).index_copy(0, index[None], here[weight][index][None])
                change = _unit(here[gamma], index) * here[gamma] * _response(variance, module.eps)
                flow = _scaled(here, weight, gamma, int(index), float(variance[index]), module.eps)
                yield f"scale of {name} before {norm}", {weight: scaled, gamma: change}, flow


def _scale_product(draw: Draw, weight: str, gamma: str, norm: str, eps: float) -> Product:
    """Return the slope of R along s ↦ (s·w_j, γ_j(s)) for every neuron j."""
    change = draw.params[gamma] * _response(draw.variances[norm], eps)
    terms = draw.gradient[weight] * draw.params[weight]
    other = draw.gradient[gamma] * change
    moved = (draw.noise[weight] * draw.params[weight].abs()).sum(dim=1) + draw.noise[gamma] * change.abs()
    return Product(terms.sum(dim=1) + other, terms.abs().sum(dim=1) + other.abs(), moved)


def _response(variance: Float[Tensor, " n"], eps: float) -> Float[Tensor, " n"]:
    """Return d log γ / d log s under which γ(sz − sm)/√(s²v + eps) stays the same."""
    return -eps / (variance + eps)


def _unit(like: Float[Tensor, " n"], index: Tensor) -> Float[Tensor, " n"]:
    """Return a unit vector."""
    return torch.zeros_like(like).index_fill(0, index.reshape(1), 1.0)


def _without_effect(here: Mapping[str, Tensor], draws: list[Draw]) -> Iterator[_Tangent]:
    """Yield the directions of parameters whose gradient is exactly zero everywhere."""
    for name, tensor in here.items():
        unused = torch.stack([draw.gradient[name] == 0 for draw in draws]).all(dim=0).reshape(-1)
        for index in torch.nonzero(unused).flatten():
            yield f"{name} without effect", {name: _unit(tensor.reshape(-1), index).reshape(tensor.shape)}, None


def _flat(parts: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Float[Tensor, " M"]:
    """Return a tangent as one vector, zero for parameters that it leaves."""
    return torch.cat([parts.get(name, torch.zeros_like(tensor)).reshape(-1) for name, tensor in like.items()])
