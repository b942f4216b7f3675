"""Approximate lifting through a smooth activation, near a point of inflection."""

from dataclasses import dataclass
from typing import Any, NoReturn, final

import torch
from torch import nn

from liftscape._random import as_generator
from liftscape.activations import affine_pieces, as_module, inflections
from liftscape.embedding._choose import choose_widths
from liftscape.embedding._depth_chart import DepthChart, InsertedLayer
from liftscape.embedding._draw import draw_frames, numerical_rank
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._preserved import require_preserved
from liftscape.functional import trainable_parameters
from liftscape.outcomes import ActivationError, EmbeddingError, Outcome
from liftscape.sites import copy_with, require_site

__all__ = ["ApproximatedSite", "approximate_lift"]


@dataclass(frozen=True)
class ApproximatedSite(Outcome):
    """What was inserted at one affine map, approximately.

    Attributes:
        name: the map's name in the smaller network.
        width: neurons of the inserted layer.
        rank: rank of W.
        epsilon: ε, size of the inserted input weights.
        inflection: t₀ with σ″(t₀) = 0.
        slope: σ′(t₀).
    """

    name: str
    width: int
    rank: int
    epsilon: float
    inflection: float
    slope: float


@final
class _Line(nn.Module):
    """t ↦ λt + μ."""

    def __init__(self, slope: float, intercept: float) -> None:
        super().__init__()
        self.slope, self.intercept = slope, intercept

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        return self.slope * t + self.intercept


@dataclass(frozen=True)
class NoLaw:
    """The inertia of a point that is not critical follows from no law."""

    def predict(self, inertia: Any, risk: Any = None) -> NoReturn:
        """Refuse.

        Args:
            inertia: (n₋, n₀, n₊) of the smaller network.
            risk: its risk.

        Raises:
            EmbeddingError: always.
        """
        raise EmbeddingError(
            "an approximate lift is not critical, so its inertia cannot be predicted from that of the smaller network; "
            "use lift with an activation that has an affine piece, or measure it with curvature.inertia."
        )


def approximate_lift(
    model: nn.Module,
    inputs: Any,
    at: str,
    *,
    epsilon: float = 1e-2,
    width: int | None = None,
    activation: "nn.Module | type[nn.Module] | str | None" = None,
    generator: torch.Generator | int | None = None,
) -> Embedding:
    """Insert u = σ(εA₀h + t₀) in front of z = W h + b with z = B₀u/(εσ′(t₀)) + d and B₀A₀ = W, σ″(t₀) = 0.

    Outputs are off by O(ε²) and the gradient by O(ε): the point is not critical, and has negative curvature of order
    one where (σ‴/σ′)·E[(B₀ᵀe)_j (a_j·h) h] ≠ 0. The chart is that of the layer's line at t₀.

    Source: derived (theory T7); the paper's critical lifting asks for an affine piece.

    Args:
        model: any module; it is left as it was.
        inputs: S, by which the site is found; the first batch is used.
        at: name of a Linear.
        epsilon: ε > 0.
        width: neurons; rank W + 1 when None.
        activation: smooth, with an inflection where σ′ ≠ 0; tanh when None.
        generator: source of A₀, on the CPU; seed 0 when None.

    Returns:
        The embedding, without a manifold.

    Raises:
        EmbeddingError: if ε is not positive, the width is below the rank, or the site has no bias and σ(t₀) ≠ 0.
        ActivationError: if the activation has an affine piece, or no inflection with σ′ ≠ 0.
        SiteError: if there is no such map, or it is tied, reparametrised or frozen.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> deeper = approximate_lift(net, x, "2", epsilon=1e-4)
        >>> bool((deeper.model(x) - net(x)).abs().max() < 1e-6)
        True
    """
    if not epsilon > 0:
        raise EmbeddingError(f"epsilon must be positive, but {epsilon} was given.")
    site = require_site(model, at, inputs)
    linear = model.get_submodule(site.name)
    assert isinstance(linear, nn.Linear)
    sigma = as_module(nn.Tanh() if activation is None else activation)
    point, value, slope = _inflection(sigma)
    if not site.bias and (point, value) != (0.0, 0.0):
        raise EmbeddingError(
            f"'{at}' has no bias, so the constant σ({point:g}) = {value:g} of {type(sigma).__name__} cannot be "
            "compensated; use an activation with its inflection at the origin, such as tanh."
        )
    weight = linear.weight.detach().to("cpu", torch.float64)
    (k,) = choose_widths(site, numerical_rank(weight), width)
    draws = as_generator(generator)
    (frame,), last = draw_frames(weight, [k], [torch.ones(k, dtype=torch.bool)], draws)
    B = last / (epsilon * slope)
    block = nn.Sequential()
    block.add_module("A", _linear(linear, epsilon * frame.P, torch.full((k,), point) if site.bias else None))
    block.add_module("activation", as_module(sigma).to(linear.weight.device, linear.weight.dtype))
    bias = None if linear.bias is None else linear.bias.detach().to("cpu", torch.float64) - value * B.sum(dim=1)
    block.add_module("B", _linear(linear, B, bias))
    lifted = copy_with(model, {site.name: block})

    line = torch.full((k,), slope, dtype=torch.float64)
    intercept = torch.full((k,), value - slope * point, dtype=torch.float64)
    prefix = f"{site.name}." if site.name else ""
    chart = DepthChart(
        site.name,
        (InsertedLayer(f"{prefix}A", line, intercept),),
        f"{prefix}B",
        tuple(trainable_parameters(model)),
    )
    # The law of the line at t₀ is exact; what the activation adds is of order ε².
    straight = copy_with(lifted, {f"{prefix}activation": _Line(slope, value - slope * point)}, share=True)
    require_preserved(model, straight, chart, inputs, f"the approximate lift of '{site.name}'")
    evidence = ApproximatedSite(site.name, k, numerical_rank(weight), epsilon, point, slope)
    return Embedding(lifted, copy_with(model, {}), (evidence,), chart, NoLaw())


def _inflection(sigma: nn.Module) -> tuple[float, float, float]:
    """Return t₀, σ(t₀) and σ′(t₀) of the steepest inflection, or refuse."""
    if affine_pieces(sigma):
        raise ActivationError(
            f"{type(sigma).__name__} has an affine piece, so no approximation is needed; use lift, which is exact."
        )
    found = inflections(sigma)
    if not found:
        raise ActivationError(
            f"{type(sigma).__name__} has no known point of inflection with a slope; use tanh, sigmoid or GELU, or lift."
        )
    steepest = max(found, key=lambda inflection: abs(inflection.slope))
    return steepest.point, steepest.value, steepest.slope


def _linear(like: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a Linear on the device and in the dtype of another, with the given values."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.to(like.weight.device, like.weight.dtype).contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.to(like.weight.device, like.weight.dtype))
    return made
