"""Convolutions are lifted with all their options, exact at borders, critical, certified, and folded back."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.embedding import measure_gaps
from liftscape.functional import trainable_parameters
from liftscape.outcomes import SiteError

F64 = torch.float64


def network(
    kernel: int, stride: int, padding: "int | str", dilation: int, mode: str, bias: bool, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    convolution = nn.Conv2d(2, 3, kernel, stride, padding, dilation, bias=bias, padding_mode=mode)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), convolution, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)).to(F64)


def pictures(seed: int, count: int = 12) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)


@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same"]),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    layers=st.integers(1, 2),
    activation=st.sampled_from(["elu", "relu", "leaky_relu", "gelu"]),
    seed=st.integers(0, 10**6),
)
def test_a_lift_keeps_all_outputs_and_folds_back(
    kernel: int,
    stride: int,
    padding: "int | str",
    dilation: int,
    mode: str,
    bias: bool,
    layers: int,
    activation: str,
    seed: int,
) -> None:
    if padding == "same" and stride > 1:
        stride = 1
    if not bias:
        activation = "hardtanh"
    x = pictures(seed)
    model = network(kernel, stride, padding, dilation, mode, bias, seed)
    model(x)
    embedding = ls.lift(model, x, "2", width=[4 + layer for layer in range(layers)], activation=activation)
    size = 1e3 if activation == "gelu" else 1
    with torch.no_grad():
        assert float((embedding.model(x) - model(x)).abs().max()) <= size * 1e-12
    assert embedding.manifold is not None
    assert embedding.manifold.contains(embedding.model)
    assert embedding.manifold.margin() > 0
    folded = ls.fold(embedding, x)
    assert len(folded.removed) == layers
    again = folded.model.get_submodule("2")
    assert isinstance(again, nn.Conv2d)
    assert (again.stride, again.dilation, again.padding_mode) == (
        model[2].stride,
        model[2].dilation,
        model[2].padding_mode,
    )
    for name, tensor in model[2].state_dict().items():
        assert float((again.state_dict()[name] - tensor).abs().max()) <= size * 1e-12


@pytest.mark.parametrize(
    ("stride", "padding", "mode"), list(itertools.product([1, 2], [0, 1], ["zeros", "reflect", "circular"]))
)
def test_the_lifted_map_is_the_dense_matrix_of_the_convolution(stride: int, padding: int, mode: str) -> None:
    x = pictures(0)
    model = network(3, stride, padding, 1, mode, True, 0)
    model(x)
    lifted = ls.lift(model, x, "2", width=5, activation="elu")
    block, chart = lifted.model[2], lifted.chart
    with torch.no_grad():
        shape = model[:2](x).shape[1:]
        size = int(np.prod(shape))
        unit = torch.eye(size, dtype=F64).reshape(size, *shape)
        zero = torch.zeros(1, *shape, dtype=F64)
        linear = lambda module, points: module(points).flatten(1) - module(zero).flatten(1)
        A = linear(block[0], unit)
        slope = chart.layers[0].slope.repeat_interleave(A.shape[1] // 5)
        places = block[0](unit).shape[2:]
        middle = (A * slope).reshape(size, 5, *places)
        B = block[2](middle).flatten(1) - block[2](torch.zeros_like(middle[:1])).flatten(1)
        assert float((B - linear(model[2], unit)).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        ("minimum", "0"),
        ("saddle", "2"),
        pytest.param("saddle", "0", marks=pytest.mark.long),
        pytest.param("minimum", "2", marks=pytest.mark.long),
    ],
)
def test_a_planted_critical_point_stays_one_with_the_inertia_of_the_chart(kind: str, site: str) -> None:
    x = pictures(1, 350)
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Conv2d(2, 2, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(18, 1)
    )
    model = model.to(F64)
    y = ls.plant_critical_point(model, x, kind=kind, generator=torch.Generator().manual_seed(1))
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    embedding = ls.lift(model, x, site, width=None, activation="elu")
    gaps = measure_gaps(embedding, risk)
    assert gaps.output < 1e-12
    assert gaps.gradient < 1e-12
    assert gaps.hessian < 1e-10
    params = trainable_parameters(embedding.model)
    assert embedding.chart.closed_form_corank(params) == embedding.chart.numerical_corank(params)
    before, after = ls.certify(risk), ls.certify(risk.with_model(embedding.model), known_flat=embedding.manifold)
    assert before.inertia is not None
    if after.inertia is not None:
        added = embedding.chart.added_parameters(params)
        assert (after.inertia.negative, after.inertia.positive) == (before.inertia.negative, before.inertia.positive)
        assert after.inertia.zero == before.inertia.zero + added


def test_samples_differ_and_lie_on_the_manifold_and_the_lift_is_saved(tmp_path) -> None:
    x = pictures(2)
    model = network(3, 2, 1, 1, "zeros", True, 2)
    model(x)
    embedding = ls.lift(model, x, "2", width=6, activation="leaky_relu")
    manifold = embedding.manifold
    assert manifold is not None
    other = manifold.sample(torch.Generator().manual_seed(5))
    assert manifold.contains(other)
    assert float((other[2][0].weight - embedding.model[2][0].weight).detach().abs().max()) > 1e-3
    with torch.no_grad():
        moved = manifold.sample(torch.Generator().manual_seed(5))
        moved[2][0].weight += 1e-3
    assert not manifold.contains(moved)
    ls.save(embedding, tmp_path / "lifted")
    again = ls.load(model, tmp_path / "lifted")
    with torch.no_grad():
        assert torch.equal(again(x), embedding.model(x))
    with torch.no_grad():
        for t in (0.1, 0.5, 0.8):
            point = manifold.path(other)(t)
            assert manifold.contains(point, tolerance=1e-8)
            assert float((point(x) - model(x)).abs().max()) < 1e-10


def test_what_is_not_built_for_convolutions_is_said() -> None:
    x = torch.randn(5, 4, 6, 6, dtype=F64)
    plain = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1)).to(F64)
    with pytest.raises(SiteError, match="is a Conv2d, not a Linear"):
        ls.approximate_lift(plain, x, "0", epsilon=1e-3)
    sites = {site.name: (site.kind, site.in_features, site.out_features) for site in ls.find_sites(plain, x)}
    assert sites == {"0": ("conv2d", 36, 4), "3": ("linear", 64, 1)}


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": "same"}])
@pytest.mark.parametrize("layers", [1, 2])
def test_convolutions_of_one_dimension_are_lifted_folded_saved_and_trimmed(options, layers: int, tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Conv1d(3, 4, 3, **options), nn.Tanh(), nn.Flatten()).to(F64)
    x = torch.randn(15, 2, 9, dtype=F64)
    embedding = ls.lift(model, x, "2", width=[6] * layers, activation="relu")
    assert embedding.manifold is not None
    assert embedding.manifold.contains(embedding.model)
    with torch.no_grad():
        assert float((embedding.model(x) - model(x)).abs().max()) < 1e-12
    ls.save(embedding, tmp_path / "lifted")
    assert isinstance(ls.load(model, tmp_path / "lifted")[2], nn.Sequential)
    folded = ls.fold(embedding, x)
    assert len(folded.removed) == layers
    for name, tensor in model.state_dict().items():
        assert float((folded.model.state_dict()[name] - tensor).abs().max()) < 1e-12
    with torch.no_grad():
        embedding.model[2][0].bias[:2] = -1e3
        embedding.model[2][2].weight[:, :2] = 0
        trimmed = ls.trim(embedding.model, x)
        assert {row.activation: row.removed for row in trimmed.rows}["2.activation"] == 2
        torch.testing.assert_close(trimmed.model(x), embedding.model(x), rtol=1e-12, atol=1e-12)
