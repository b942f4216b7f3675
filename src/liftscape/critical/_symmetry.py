"""Zeros of the Hessian that every network of an architecture has: tangents of its symmetries."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk
from liftscape.sites import stream_features

__all__ = ["Symmetries", "symmetry_tangents"]

# ∇R(θ)·v(θ) is a sum of products whose rounding stays below this many eps·‖∇R‖‖v‖.
_ROUNDING = 1e4
_DRAWS = 3

_Tangent = tuple[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Symmetries(Outcome):
    """Tangents v of symmetries at θ, along whose flow R does not change.

    Attributes:
        tangents: (M, s), columns of length one, not necessarily independent.
        names: which symmetry each column belongs to, such as ``"rescaling between 0 and 2"``.
    """

    tangents: Float[Tensor, "M s"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Draw:
    """Parameters θ′, ∇R(θ′), and the variances that each training BatchNorm finds there."""

    params: Mapping[str, Tensor]
    gradient: Mapping[str, Tensor]
    norm: float
    variances: Mapping[str, Tensor]


def symmetry_tangents(risk: EmpiricalRisk, generator: torch.Generator | None = None) -> Symmetries:
    """Return the tangents at θ of the known symmetries that R really has.

    Candidates, for every Linear z = Wh + b: a common shift of all rows, which softmax and LayerNorm do not see (width
    of h + 1); (w_i, b_i) += ε(w_j, b_j) against the columns of another Linear, which is the rescaling of positively
    homogeneous neurons for i = j (one a neuron) and all of GL(k) where no activation lies between; before BatchNorm in
    training mode the shift of b_j and the scale of w_j with the γ_j that makes up for eps (two a channel); and
    parameters without effect. A field v is kept iff ∇R(θ′)·v(θ′) = 0 at freshly drawn θ′ far from θ, so that
    R is constant along its flow; then ∇²R(θ) v(θ) = 0 wherever θ is critical.

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
    here = risk.parameters
    draws = [_draw(risk, _redrawn(here, generator)) for _ in range(_DRAWS)]
    found: list[_Tangent] = []
    if all(0.0 < draw.norm < float("inf") for draw in draws):
        maps = _linear_maps(risk.model, here)
        for name, keys in maps.items():
            found += _shifts(name, keys, here, draws)
            for other, other_keys in maps.items():
                found += _rescalings((name, other), keys, other_keys, here, draws)
            found += _normalised(risk, name, keys, draws)
        found += _without_effect(here, draws)
    columns = [_flat(parts, here) for _, parts in found]
    names = [name for (name, _), column in zip(found, columns, strict=True) if float(column.norm()) > 0]
    columns = [column / column.norm() for column in columns if float(column.norm()) > 0]
    stacked = torch.stack(columns, dim=1) if columns else risk.flatten().new_zeros(risk.size, 0)
    return Symmetries(stacked, tuple(names))


def _redrawn(params: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw parameters anew, at the scale of an initialisation."""
    return {
        name: (
            torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            / (tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 2.0)
        ).to(tensor)
        for name, tensor in params.items()
    }


def _draw(risk: EmpiricalRisk, params: dict[str, Tensor]) -> _Draw:
    """Evaluate what the candidates are tested with."""
    gradient = risk.gradient(params)
    return _Draw(params, risk.unflatten(gradient), float(gradient.norm()), _variances(risk, params))


def _variances(risk: EmpiricalRisk, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the biased variances of what each BatchNorm in training mode reads."""
    norms = [
        name for name, module in risk.model.named_modules() if isinstance(module, nn.BatchNorm1d) and module.training
    ]
    variances: dict[str, Tensor] = {}
    if norms:
        stream_features(
            risk.at(params).model,
            norms,
            risk.batches,
            lambda name, rows: variances.update({name: rows.var(dim=0, unbiased=False)}),
        )
    return variances


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


def _vanishes(values: list[Tensor], lengths: list[Tensor], draws: list[_Draw]) -> Bool[Tensor, "..."]:
    """Tell which products ∇R(θ′)·v(θ′) are zero to rounding at all draws."""
    eps = _ROUNDING * torch.finfo(values[0].dtype).eps
    zero = [value.abs() <= eps * draw.norm * length for value, length, draw in zip(values, lengths, draws, strict=True)]
    return torch.stack(zero).all(dim=0)


def _shifts(name: str, keys: tuple[str, str | None], here: Mapping[str, Tensor], draws: list[_Draw]) -> list[_Tangent]:
    """Return the common shifts W += 1uᵀ, b += s1 that R does not see."""
    found: list[_Tangent] = []
    for key in keys:
        if key is not None and here[key].shape[0] > 1:
            sums = [draw.gradient[key].sum(dim=0) for draw in draws]
            keep = _vanishes(sums, [torch.ones_like(total) for total in sums], draws)
            for index in torch.nonzero(keep):
                shift = torch.zeros_like(here[key])
                shift[:, *index.tolist()] = 1.0
                found.append((f"common shift of {name}", {key: shift}))
    return found


def _rescalings(
    pair: tuple[str, str],
    first: tuple[str, str | None],
    last: tuple[str, str | None],
    here: Mapping[str, Tensor],
    draws: list[_Draw],
) -> Iterator[_Tangent]:
    """Yield the tangents (E_ij A, −B E_ij) of (GA, BG⁻¹) that R does not see, A with its bias as a column."""
    A, B = _rows(first, here), here[last[0]]
    if set(first) & {last[0]} or B.shape[1] != A.shape[0]:
        return
    values, lengths = [], []
    for draw in draws:
        rows, weight = _rows(first, draw.params), draw.params[last[0]]
        values.append(_rows(first, draw.gradient) @ rows.T - weight.T @ draw.gradient[last[0]])
        lengths.append((rows.norm(dim=1)[None, :] ** 2 + weight.norm(dim=0)[:, None] ** 2).sqrt())
    for i, j in torch.nonzero(_vanishes(values, lengths, draws)).tolist():
        parts = {key: torch.zeros_like(here[key]) for key in (*first, last[0]) if key is not None}
        for key in first:
            if key is not None:
                parts[key][i] = here[key][j]
        parts[last[0]][:, j] = -B[:, i]
        yield f"rescaling between {pair[0]} and {pair[1]}", parts


def _rows(keys: tuple[str, str | None], values: Mapping[str, Tensor]) -> Float[Tensor, "out features"]:
    """Return a map's weight with its bias as the last column."""
    weight, bias = keys
    return values[weight] if bias is None else torch.cat([values[weight], values[bias][:, None]], dim=1)


def _normalised(risk: EmpiricalRisk, name: str, keys: tuple[str, str | None], draws: list[_Draw]) -> Iterator[_Tangent]:
    """Yield the shifts and scales of a map that a BatchNorm in training mode takes away."""
    here, (weight, bias) = risk.parameters, keys
    for norm, variance in _variances(risk, here).items():
        module, gamma = risk.model.get_submodule(norm), f"{norm}.weight"
        width = here[weight].shape[0]
        if not isinstance(module, nn.BatchNorm1d) or len(variance) != width:
            continue
        if bias is not None:
            slopes = [draw.gradient[bias] for draw in draws]
            for index in torch.nonzero(_vanishes(slopes, [torch.ones_like(s) for s in slopes], draws)).flatten():
                yield f"shift of {name} before {norm}", {bias: _unit(here[bias], index)}
        if gamma in here:
            values, lengths = [], []
            for draw in draws:
                change = draw.params[gamma] * _response(draw.variances[norm], module.eps)
                values.append((draw.gradient[weight] * draw.params[weight]).sum(dim=1) + draw.gradient[gamma] * change)
                lengths.append((draw.params[weight].norm(dim=1) ** 2 + change**2).sqrt())
            for index in torch.nonzero(_vanishes(values, lengths, draws)).flatten():
                scaled = torch.zeros_like(here[weight]).index_copy(0, index[None], here[weight][index][None])
                change = _unit(here[gamma], index) * here[gamma] * _response(variance, module.eps)
                yield f"scale of {name} before {norm}", {weight: scaled, gamma: change}


def _response(variance: Float[Tensor, " n"], eps: float) -> Float[Tensor, " n"]:
    """Return d log γ / d log s under which γ(sz − sm)/√(s²v + eps) stays the same."""
    return -eps / (variance + eps)


def _unit(like: Float[Tensor, " n"], index: Tensor) -> Float[Tensor, " n"]:
    """Return a unit vector."""
    return torch.zeros_like(like).index_fill(0, index.reshape(1), 1.0)


def _without_effect(here: Mapping[str, Tensor], draws: list[_Draw]) -> Iterator[_Tangent]:
    """Yield the directions of parameters whose gradient is exactly zero everywhere."""
    for name, tensor in here.items():
        unused = torch.stack([draw.gradient[name] == 0 for draw in draws]).all(dim=0).reshape(-1)
        for index in torch.nonzero(unused).flatten():
            yield f"{name} without effect", {name: _unit(tensor.reshape(-1), index).reshape(tensor.shape)}


def _flat(parts: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Float[Tensor, " M"]:
    """Return a tangent as one vector, zero for parameters that it leaves."""
    return torch.cat([parts.get(name, torch.zeros_like(tensor)).reshape(-1) for name, tensor in like.items()])
