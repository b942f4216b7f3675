"""Convolutions in groups are lifted group by group, exact at borders, critical, with the inertia of the chart."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.embedding.dense_matrix import dense_matrix
from torch import Tensor, nn

import liftscape as ls
from liftscape.embedding import measure_gaps
from liftscape.functional import trainable_parameters
from liftscape.outcomes import EmbeddingError

F64 = torch.float64
MODES = ["zeros", "reflect", "replicate", "circular"]


def samples(shape: tuple[int, ...], seed: int, count: int = 12) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def largest(values: "Tensor | np.ndarray") -> float:
    return float(abs(values).max())


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@given(
    axes=st.integers(1, 2),
    groups=st.sampled_from([2, 4]),
    multiplier=st.integers(1, 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same"]),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(MODES),
    bias=st.booleans(),
    layers=st.integers(1, 2),
    activation=st.sampled_from(["elu", "leaky_relu", "gelu"]),
    seed=st.integers(0, 10**6),
)
def test_a_lift_keeps_all_outputs_is_the_dense_matrix_and_folds_back(
    axes: int,
    groups: int,
    multiplier: int,
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
    torch.manual_seed(seed)
    options = {"dilation": dilation, "groups": groups, "bias": bias, "padding_mode": mode}
    stride = 1 if padding == "same" else stride
    activation = activation if bias else "hardtanh"
    kind, shape = (nn.Conv1d, (4, 6)) if axes == 1 else (nn.Conv2d, (4, 5, 6))
    map_ = kind(4, 4 * multiplier, kernel, stride, padding, **options)
    model, x = nn.Sequential(map_, nn.Tanh(), nn.Flatten()).to(F64), samples(shape, seed)
    rank = max(int(torch.linalg.matrix_rank(own.flatten(1))) for own in map_.weight.chunk(groups))
    widths = [groups * (rank + layer) for layer in range(layers)]
    embedding = ls.lift(model, x, "0", width=widths, activation=activation)
    size = 1e3 if activation == "gelu" else 1
    with torch.no_grad():
        assert largest(embedding.model(x) - model(x)) <= size * 1e-12
    block, matrix = embedding.model[0], dense_matrix(map_, shape)
    product, reached = dense_matrix(block[0], shape), block[0](x).shape[1:]
    for layer, following in zip(embedding.chart.layers, block[2::2], strict=True):
        slope = layer.slope.numpy().repeat(int(np.prod(reached[1:])))
        product = dense_matrix(following, tuple(reached)) @ (slope[:, None] * product)
        reached = (len(following.weight), *reached[1:])
    assert largest(product - matrix) <= 1e-12
    params = trainable_parameters(embedding.model)
    chart, c, C, K = embedding.chart, 4 // groups, 4 * multiplier, kernel**axes
    assert chart.closed_form_corank(params) == chart.numerical_corank(params)
    if layers == 1:
        k = widths[0] // groups
        expected = k * groups * (c * K + bias) + C * (k + bias) - C * (c * K + bias)
        assert chart.added_parameters(params) == expected
    manifold = embedding.manifold
    assert manifold.contains(embedding.model)
    folded = ls.fold(embedding, x)
    assert len(folded.removed) == layers
    for name, tensor in map_.state_dict().items():
        again = folded.model[0].state_dict()[name]
        assert again.shape == tensor.shape
        assert largest(again - tensor) <= size * 1e-12
    assert (folded.model[0].groups, folded.model[0].padding) == (groups, map_.padding)


@pytest.mark.parametrize("kind", ["minimum", "saddle"])
@pytest.mark.parametrize(
    ("channels", "corank", "width"), [(2, 0, None), pytest.param(2, 0, 2, marks=pytest.mark.long), (4, 6, 4)]
)
def test_a_planted_critical_point_stays_one_with_the_inertia_of_the_chart(
    kind: str, channels: int, corank: int, width: int | None
) -> None:
    torch.manual_seed(0)
    x = samples((1, 4, 4), 1, 300)
    layers = [nn.Conv2d(1, channels, 2), nn.Tanh(), nn.Conv2d(channels, channels, 2, 2, groups=2), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 2)).to(F64)
    with torch.no_grad():
        if corank:
            # One group of rank 1 in a width that the other needs.
            model[2].weight[1] = -model[2].weight[0]
        for parameter in model.parameters():
            parameter *= 2
    y = ls.plant_critical_point(model, x, kind=kind, generator=torch.Generator().manual_seed(1))
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    embedding = ls.lift(model, x, "2", width=width, activation="elu")
    gaps = measure_gaps(embedding, risk)
    assert gaps.output < 1e-12
    assert gaps.gradient < 1e-12
    assert gaps.hessian < 1e-10
    before, after = ls.certify(risk), ls.certify(risk.with_model(embedding.model), known_flat=embedding.manifold)
    assert before.inertia is not None
    assert after.inertia is not None
    prediction = embedding.predict_inertia(before.inertia)
    assert prediction.holds(after.inertia)
    assert embedding.corank == embedding.chart.numerical_corank(trainable_parameters(embedding.model)) == corank
    assert prediction.exact == (corank == 0)
    assert (before.kind == "strict saddle") == (kind == "saddle")
    if prediction.exact:
        assert after.kind == ("strict saddle" if kind == "saddle" else "degenerate local minimum")


@pytest.mark.parametrize(("groups", "spare"), [(2, 1), (4, 1), (1, 1), (4, 0)])
def test_the_manifold_has_samples_tangents_and_paths(groups: int, spare: int, tmp_path: Path) -> None:
    torch.manual_seed(2)
    map_ = nn.Conv2d(4, 4, 3, 2, 1, groups=groups)
    model, x = nn.Sequential(map_, nn.Tanh(), nn.Flatten(), nn.Linear(36, 1)).to(F64), samples((4, 5, 5), 2)
    width = groups * (4 // groups + spare)
    embedding = ls.lift(model, x, "0", width=width, activation="leaky_relu")
    manifold = embedding.manifold
    other = manifold.sample(torch.Generator().manual_seed(5))
    assert manifold.contains(other)
    assert largest((other[0][0].weight - embedding.model[0][0].weight).detach()) > 1e-3
    params = trainable_parameters(embedding.model)
    assert manifold.dimension == embedding.added_parameters + embedding.corank
    J, T = embedding.chart.jacobian(params), manifold.tangent_basis()
    assert T.shape[1] == manifold.dimension == J.shape[1] - int(torch.linalg.matrix_rank(J))
    assert largest(J @ T) < 1e-12 * largest(J)
    if spare:
        path = manifold.path(other)
        with torch.no_grad():
            scale = largest(model(x))
            for t in np.linspace(0, 1, 9):
                point = path(float(t))
                assert manifold.contains(point, tolerance=1e-8)
                assert largest(point(x) - model(x)) < 1e-9 * scale
            assert torch.equal(path(1.0)(x), other(x))
    else:
        # At the least width the components are told apart group by group.
        P = [end[0][0].weight.flatten(1).unflatten(0, (groups, -1)) for end in (embedding.model, other)]
        V = [torch.linalg.svd(own)[2][:1].T for own in map_.weight.flatten(1).unflatten(0, (groups, -1))]
        signs = [[float(torch.linalg.det(A @ v).detach().sign()) for A, v in zip(own, V, strict=True)] for own in P]
        if signs[0] == signs[1]:
            assert manifold.contains(manifold.path(other)(0.5), tolerance=1e-8)
        else:
            with pytest.raises(EmbeddingError, match="lie in different components"):
                manifold.path(other)
    ls.save(embedding, tmp_path / "lifted")
    again = ls.load(model, tmp_path / "lifted")
    assert (again[0][0].groups, again[0][2].groups) == (groups, groups)
    with torch.no_grad():
        assert torch.equal(again(x), embedding.model(x))


def test_widths_that_do_not_fit_the_groups_are_named() -> None:
    x = samples((4, 5, 5), 0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten()).to(F64)
    with pytest.raises(EmbeddingError, match="choose a multiple of 2"):
        ls.lift(model, x, "0", width=7)
    with pytest.raises(EmbeddingError, match="2 groups times the largest rank of a group = 6 neurons"):
        ls.lift(model, x, "0", width=4)
    with pytest.raises(EmbeddingError, match=r"rank W = 3 neurons in group 0 on pieces .* but 2 of 4 are"):
        ls.lift(model, x, "0", width=8, activation="relu", pieces=[0, 1])


@pytest.mark.parametrize("groups", list(itertools.product([1, 2, 4], [1, 2, 4])))
def test_grouped_maps_fold_where_that_does_not_cost_more(groups: tuple[int, int]) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(4, 8, 3, 2, 1, groups=groups[0], padding_mode="circular")
    last = nn.Conv2d(8, 4, 1, groups=groups[1])
    model = nn.Sequential(first, nn.LeakyReLU(0.1), last).to(F64)
    with torch.no_grad():
        first.bias.copy_(40.0 * torch.tensor([1, -1, 1, -1, 1, 1, -1, -1]))
    x = samples((4, 5, 5), 0)
    folded = ls.fold(model, x)
    common = min(groups)
    cheaper = 4 * 4 // common * 9 < first.weight.numel() + last.weight.numel()
    assert bool(folded.removed) == (groups[0] == groups[1] or cheaper)
    if not folded.removed:
        assert f"in {groups[0]} and {groups[1]} groups would take" in folded.report[0].reason
        return
    assert folded.model[-1].groups == common
    slope = np.where(first.bias.detach().numpy() > 0, 1.0, 0.1).repeat(9)
    product = dense_matrix(last, (8, 3, 3)) @ (slope[:, None] * dense_matrix(first, (4, 5, 5)))
    assert largest(dense_matrix(folded.model[-1], (4, 5, 5)) - product) < 1e-12
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-12, atol=1e-12)


def test_depthwise_then_dense_folds_where_one_output_makes_it_cheaper_and_kernels_in_groups_compose() -> None:
    torch.manual_seed(0)
    x = samples((4, 7, 7), 0)
    for outputs, folds in ((1, True), (3, False)):
        model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, outputs, 1)).to(F64)
        with torch.no_grad():
            model[0].bias.fill_(50.0)
        folded = ls.fold(model, x)
        assert bool(folded.removed) == folds
        with torch.no_grad():
            torch.testing.assert_close(folded.model(x), model(x), rtol=1e-12, atol=1e-12)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.ReLU(), nn.Conv2d(6, 4, 2, groups=2)).to(F64)
    with torch.no_grad():
        model[0].bias.fill_(50.0)
    folded = ls.fold(model, x)
    assert folded.removed == ("1",)
    assert (folded.model[-1].groups, folded.model[-1].kernel_size) == (2, (5, 5))
    product = dense_matrix(model[2], (6, 4, 4)) @ dense_matrix(model[0], (4, 7, 7))
    assert largest(dense_matrix(folded.model[-1], (4, 7, 7)) - product) < 1e-12
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-12, atol=1e-12)
