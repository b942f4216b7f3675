"""The chart of inserted layers: a chain of affine maps on affine pieces collapses to one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from jaxtyping import Float
from torch import Tensor

from liftscape.embedding._chart import Chart, rank_of

__all__ = ["DepthChart", "InsertedLayer"]

Parameters = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class InsertedLayer:
    """One inserted layer u = σ(A h + c) whose neurons j sit on pieces σ(t) = λ_j t + μ_j.

    Attributes:
        name: full name of the Linear or convolution that holds A and c.
        slope: λ, (k,).
        intercept: μ, (k,).
    """

    name: str
    slope: Float[Tensor, " k"]
    intercept: Float[Tensor, " k"]


@final
@dataclass(frozen=True)
class DepthChart(Chart):
    """π(A, c, B, d, rest) = (BΛA, B(Λc + μ) + d, rest), for one inserted layer or a chain of them.

    Of a convolution in groups it acts group by group: its matrices are the blocks of one that is block diagonal.

    Source: theory T4, derived.

    Attributes:
        site: name of the affine map in the smaller network.
        layers: the inserted layers in the order of the forward pass.
        last: name of the Linear or convolution that holds B and d.
        order: names of the smaller network's trainable parameters.
        groups: of the convolutions; 1 of Linears.
    """

    site: str
    layers: tuple[InsertedLayer, ...]
    last: str
    order: tuple[str, ...]
    groups: int = 1

    def project(self, params: Parameters) -> dict[str, Tensor]:
        """Collapse the chain to one affine map, differentiably.

        Args:
            params: θ′ by name.

        Returns:
            θ by name.
        """
        weight, bias = self.collapse(params)
        weight = weight.reshape(-1, *params[_join(self.layers[0].name, "weight")].shape[1:])
        collapsed = {_join(self.site, "weight"): weight, _join(self.site, "bias"): bias}
        return {name: collapsed[name] if name in collapsed else params[name] for name in self.order}

    def magnitude(self, params: Parameters) -> dict[str, Tensor]:
        """Return |B||Λ||A|, |B|(|Λ||c| + |μ|) + |d|, and what is handed on as it is.

        Args:
            params: θ′ by name.

        Returns:
            Numbers by name of θ.
        """
        layers = tuple(InsertedLayer(own.name, own.slope.abs(), own.intercept.abs()) for own in self.layers)
        return replace(self, layers=layers).project({name: tensor.abs() for name, tensor in params.items()})

    def collapse(self, params: Parameters) -> tuple[Tensor, Tensor | None]:
        """Return W = BΛA, as a matrix for each group, and b = B(Λc + μ) + d of the chain.

        Args:
            params: θ′ by name.

        Returns:
            The weight (groups, m_out, m_in) and the bias; the bias is None where the maps have none.
        """
        weight: Tensor | None = None
        bias: Tensor | None = None
        for layer in self.layers:
            weight, bias = self._apply(params, layer.name, weight, bias)
            slope = layer.slope.to(weight)
            weight = slope.reshape(self.groups, -1, 1) * weight
            bias = None if bias is None else slope * bias + layer.intercept.to(weight)
        return self._apply(params, self.last, weight, bias)

    @property
    def sites(self) -> frozenset[str]:
        """The one map that was replaced."""
        return frozenset({self.site})

    @property
    def maps(self) -> frozenset[str]:
        """Names of the inserted maps and of the last one."""
        return frozenset({*(layer.name for layer in self.layers), self.last})

    @property
    def has_closed_form(self) -> bool:
        """The corank follows from ranks of partial products."""
        return True

    def closed_form_corank(self, params: Parameters) -> int:
        """Return m_out·m_in − Σ_i u_i (v_i − v_{i+1}), u_i and v_i the ranks of the products after and before factor i.

        The image of the differential is Σ_i U_i ⊗ V_i, with column spaces U_0 ⊂ … ⊂ U_L of what follows factor i and
        row spaces V_0 ⊃ … ⊃ V_L of what precedes it. For one layer this is (m_q − rank ΛA)(m_{q+1} − rank BΛ). With
        groups it is the sum over them.

        Args:
            params: θ′ by name.

        Returns:
            The corank.
        """
        before = [self._matrices(params, layer.name).detach() for layer in self.layers]
        slopes = [layer.slope.to(A).reshape(self.groups, -1) for layer, A in zip(self.layers, before, strict=True)]
        last = self._matrices(params, self.last).detach()
        own = lambda group, tensors: [each[group] for each in tensors]
        return sum(_corank(own(group, before), own(group, slopes), last[group]) for group in range(self.groups))

    def _matrices(self, params: Parameters, name: str) -> Tensor:
        """Return the weight of a map as one matrix a group that acts on features, those of a convolution patches."""
        weight = params[_join(name, "weight")].flatten(1)
        return weight.reshape(self.groups, -1, weight.shape[1])

    def _apply(
        self, params: Parameters, name: str, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Compose one more affine map onto (weight, bias)."""
        own_weight, own_bias = self._matrices(params, name), params.get(_join(name, "bias"))
        if weight is None:
            return own_weight, own_bias
        if own_bias is None:
            return own_weight @ weight, None
        if bias is None:
            return own_weight @ weight, own_bias
        return own_weight @ weight, (own_weight @ bias.reshape(self.groups, -1, 1)).flatten() + own_bias


def _corank(before: list[Tensor], slopes: list[Tensor], last: Tensor) -> int:
    """Return the corank of a chain of matrices, last · … · Λ · first."""
    scaled = [slope[:, None] * A for slope, A in zip(slopes, before, strict=True)]
    m_in, m_out = scaled[0].shape[1], last.shape[0]
    row_ranks = [m_in]
    product: Tensor | None = None
    for factor in scaled:
        product = factor if product is None else factor @ product
        row_ranks.append(rank_of(product))
    column_ranks = [m_out]
    product = None
    for slope, factor in zip(reversed(slopes), reversed([*scaled[1:], last]), strict=True):
        product = factor * slope if product is None else product @ factor * slope
        column_ranks.insert(0, rank_of(product))
    falls = [a - b for a, b in zip(row_ranks, [*row_ranks[1:], 0], strict=True)]
    return m_out * m_in - sum(u * fall for u, fall in zip(column_ranks, falls, strict=True))


def _join(module: str, parameter: str) -> str:
    """Return the full name of a module's parameter."""
    return f"{module}.{parameter}" if module else parameter
