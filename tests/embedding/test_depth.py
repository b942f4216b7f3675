"""Critical lifting in any module: outputs, gradient through the chart, local form; fold leads back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.embedding import DepthLaw
from liftscape.functional import trainable_parameters

F64 = torch.float64


class Listed(nn.Module):
    """A ModuleList of blocks with a residual sum and functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(2))
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.out(torch.sigmoid(x))


class CalledTwice(nn.Module):
    """One map called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.map(torch.tanh(self.map(x)))))


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


PLACES: list[tuple[Callable[[], nn.Module], str]] = [
    (chain, "0"),
    (chain, "2"),
    (Listed, "blocks.1.0"),
    (Listed, "out"),
    (CalledTwice, "map"),
    (CalledTwice, "out"),
]
ACTIVATIONS = (
    "elu",
    "selu",
    "celu",
    "relu",
    "leaky_relu",
    "hardtanh",
    "relu6",
    "hardswish",
    "gelu",
    "silu",
    "softplus",
)


@given(
    place=st.sampled_from(PLACES),
    activation=st.sampled_from(ACTIVATIONS),
    extra=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_outputs_gradient_and_fold(
    place: tuple[Callable[[], nn.Module], str], activation: str, extra: list[int], seed: int
) -> None:
    make, at = place
    torch.manual_seed(seed)
    model = make().to(F64)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(25, 3, generator=generator, dtype=F64)
    weight = model.get_submodule(at).weight
    widths = [int(torch.linalg.matrix_rank(weight)) + more for more in extra]
    embedding = ls.lift(model, inputs, at, width=widths, activation=activation, generator=generator)
    with torch.no_grad():
        outputs = model(inputs)
        # Tails sit far from the origin, so that the intercepts they cancel are larger.
        size = 1 if activation not in {"gelu", "silu", "softplus", "hardswish"} else 1e2
        assert float((embedding.model(inputs) - outputs).abs().max()) <= size * 1e-12 * float(outputs.abs().max())

    targets = torch.randn(25, 2, generator=generator, dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (inputs, targets))
    lifted = risk.with_model(embedding.model)
    J = embedding.chart.jacobian(lifted.parameters)
    expected = J.T @ risk.gradient()
    assert float((lifted.gradient() - expected).norm()) <= size * 1e-11 * (1 + float(expected.norm()))

    if make is not CalledTwice:
        folded = ls.fold(embedding.model, inputs).model.get_submodule(at)
        assert float((folded.weight - weight).detach().abs().max()) <= size * 1e-12
        assert float((folded.bias - model.get_submodule(at).bias).detach().abs().max()) <= size * 1e-12


@pytest.mark.parametrize("kind", ["minimum", "saddle"])
@pytest.mark.parametrize("widths", [2, 3, (2, 3), (4, 3, 3)])
@pytest.mark.parametrize("at", ["0", "2"])
def test_local_form_and_inertia_at_planted_points(
    at: str, widths: int | tuple[int, ...], kind: str, generator: torch.Generator
) -> None:
    model = ls.nets.mlp((3, 2, 2))
    inputs = torch.randn(120, 3, generator=generator, dtype=F64)
    targets = ls.plant_critical_point(model, inputs, kind=kind, generator=generator)
    risk = ls.EmpiricalRisk(model, "mse", (inputs, targets))
    base = ls.curvature.inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))
    embedding = ls.lift(model, inputs, at, width=widths, activation="leaky_relu", generator=generator)
    lifted = risk.with_model(embedding.model)
    J, H, H_lifted = (
        embedding.chart.jacobian(lifted.parameters),
        risk.hessian().to_dense(),
        lifted.hessian().to_dense(),
    )
    assert float((H_lifted - J.T @ H @ J).norm()) <= 1e-11 * float(H_lifted.norm())
    measured = ls.curvature.inertia(H_lifted, gradient_norm=float(lifted.gradient().norm()))
    assert measured.decided
    assert embedding.predict_inertia(base).holds(measured)
    assert (base.negative > 0) == (kind == "saddle")


def test_rank_deficient_factors_can_lose_strictness(generator: torch.Generator) -> None:
    """A strict saddle whose negative direction is not in the image of J becomes one that is not strict."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(F64)
    found = False
    for seed in range(40):
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=F64))
            model[2].weight.zero_()
        inputs = torch.randn(40, 3, generator=draws, dtype=F64)
        features = torch.tanh(model[0](inputs)).detach()
        # With W = 0 the point is critical where the residual is orthogonal to the features and to constants.
        basis = torch.linalg.qr(torch.cat([features, torch.ones(40, 1, dtype=F64)], dim=1))[0]
        residual = torch.randn(40, 3, generator=draws, dtype=F64)
        residual -= basis @ (basis.T @ residual)
        targets = model[2].bias.detach() - 4 * residual
        risk = ls.EmpiricalRisk(model, "mse", (inputs, targets))
        assert float(risk.gradient().norm()) <= 1e-12
        base = ls.curvature.inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))
        embedding = ls.lift(model, inputs, "2", width=1, activation="elu", generator=draws)
        with torch.no_grad():
            embedding.model.get_submodule("2.B").weight.zero_()
            embedding.model.get_submodule("2.A").weight.zero_()
            embedding.model.get_submodule("2.B").bias.copy_(model[2].bias)
        lifted = risk.with_model(embedding.model)
        measured = ls.curvature.inertia(lifted.hessian(), gradient_norm=float(lifted.gradient().norm()))
        assert embedding.corank == 4 * 3
        assert DepthLaw(embedding.corank, embedding.added_parameters).predict(base).holds(measured)
        found = found or (base.negative > 0 and measured.negative == 0)
    assert found


@pytest.mark.parametrize(("sites", "closed"), [(("0", "2"), True), (("2", "2.B"), False), (("2", "2.A"), False)])
@pytest.mark.parametrize("narrow", [False, True])
def test_charts_at_maps_apart_have_the_sum_of_their_coranks(sites: tuple[str, str], closed: bool, narrow: bool) -> None:
    model = ls.nets.mlp((3, 4, 2))
    if narrow:
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight.copy_(torch.outer(layer.weight[:, 0], layer.weight[0]))
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    width = None if not narrow else 1
    first = ls.lift(model, x, sites[0], width=width, activation="elu")
    chart = ls.lift(first, x, sites[1], width=width, activation="elu").chart
    params = trainable_parameters(ls.lift(first, x, sites[1], width=width, activation="elu").model)
    assert chart.has_closed_form == closed
    assert chart.corank(params) == chart.numerical_corank(params)
    assert (chart.corank(params) > 0) == narrow


@pytest.mark.parametrize("bias", [True, False])
def test_the_margin_is_that_of_the_network_and_off_centre_features_keep_bias_free_lifts_exact(bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias=bias), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.rand(20, 4, dtype=torch.float64) + 5
    embedding = ls.lift(model, x, "0", width=[5, 6], activation="hardtanh")
    assert embedding.sites[0].margin == pytest.approx(embedding.manifold.margin(), rel=1e-9)
    assert embedding.sites[0].margin > 0
    with torch.no_grad():
        torch.testing.assert_close(embedding.model(x), model(x), rtol=1e-12, atol=1e-12)


def test_shared_weights_are_the_callers_own_and_others_are_not() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.rand(20, 4, dtype=torch.float64)
    for share in (True, False):
        lifted = ls.lift(model, x, "2", share=share)
        for network in (lifted.model, lifted.base):
            assert (network[0].weight is model[0].weight) == share
        assert isinstance(model[2], nn.Linear)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("width", [np.int64(5), np.array([5, 6]), [np.int32(5), 6], (5, 6)])
def test_widths_may_be_numpys(width: Any) -> None:
    model, x = ls.nets.mlp((3, 4, 2)), torch.randn(20, 3, dtype=torch.float64)
    lifted = ls.lift(model, x, "2", activation="elu", width=width)
    inserted = [module.out_features for module in lifted.model.modules() if isinstance(module, nn.Linear)][1:-1]
    assert inserted == np.atleast_1d(width).tolist()


def test_one_pass_over_the_data_is_enough() -> None:
    class Counting(list):
        reads = 0

        def __iter__(self) -> object:
            for batch in list.__iter__(self):
                Counting.reads += 1
                yield batch

    model = ls.nets.mlp((3, 4, 2))
    data = Counting([torch.randn(5, 3, dtype=torch.float64) for _ in range(40)])
    ls.lift(model, data, "2", activation="elu")
    # The first batch tells the structure; the rest is read once.
    assert Counting.reads <= 45


def test_slopes_by_channel_are_of_their_own_layer_only() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 1)).double()
    x = torch.randn(20, 4, dtype=torch.float64)
    lifted = ls.lift(model, x, "2")
    assert lifted.model[2].activation.num_parameters == 1
    with torch.no_grad():
        torch.testing.assert_close(lifted.model(x), model(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(
        ls.LiftscapeError, match="a layer of 2 neurons in front of '2' cannot have a PReLU with 6 slopes"
    ):
        ls.lift(model, x, "2", activation=model[1])


class OfOneSize(nn.Module):
    """Takes batches of six only, and may draw at random."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.map, self.share = nn.Linear(2, 2), share

    def forward(self, x: Tensor) -> Tensor:
        dropped = torch.rand(6) < self.share
        return torch.where(dropped.view(3, 2).flatten()[:, None], 0.0, self.map(x.view(6, 2)))


def test_what_takes_no_fewer_samples_is_traced_on_all_and_rare_randomness_is_found() -> None:
    x = torch.randn(6, 2, dtype=torch.float64)
    lifted = ls.lift(OfOneSize(0.0).double(), x, "map")
    assert lifted.sites[0].margin > 0
    torch.manual_seed(0)
    with pytest.raises(ls.LiftscapeError, match="two evaluations differ"):
        ls.lift(OfOneSize(0.5).double(), x, "map")


@pytest.mark.parametrize("least", [1.0, 1e-3, 1e-9, 0.0])
def test_singular_values_of_short_maps_are_right_to_their_rounding(least: float, generator: torch.Generator) -> None:
    """A large float32 map's values come from WWᵀ where that is exact enough; a rank below full is always seen."""
    rows, columns = 300, 260
    net = nn.Sequential(nn.Linear(columns, rows), nn.ReLU(), nn.Linear(rows, 1))
    left = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=F64))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=F64))[0]
    strengths = torch.logspace(0, -2, columns, dtype=F64)
    strengths[-1] = 1e-2 * least
    if least:
        weight = (left * strengths) @ right
    else:
        # Entries that are small integers keep their rank in float32.
        weight = torch.randint(-3, 4, (rows, columns - 1), generator=generator, dtype=F64)
        weight = torch.cat([weight, weight[:, :1]], dim=1)
    with torch.no_grad():
        net[0].weight.copy_(weight)
    found = ls.lift(net, torch.randn(8, columns, generator=generator), "0").sites[0]
    values = torch.tensor(found.singular_values, dtype=F64)
    exact = torch.linalg.svdvals(net[0].weight.detach().double())
    assert float((values - exact).abs().max()) <= torch.finfo(torch.float32).eps * float(exact[0])
    assert found.rank == columns - (not least)
