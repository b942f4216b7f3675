"""Folds by least squares: the ridge of NumPy's normal equations, and what the risk does to first order and beyond."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import fold, fold_within
from liftscape.risk import EmpiricalRisk

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def network(kind: str, slope: float = 0.2) -> nn.Sequential:
    torch.manual_seed(1)
    if kind == "linear":
        return nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(slope), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    maps: dict[str, tuple[nn.Module, nn.Module]] = {
        "conv1d": (nn.Conv1d(3, 6, 3, stride=2), nn.Conv1d(6, 4, 2)),
        "conv2d": (nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)),
    }
    first, last = maps[kind]
    layers = [first, nn.LeakyReLU(slope), last, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)]
    return nn.Sequential(*layers).double()


def data(kind: str, count: int = 40) -> tuple[Tensor, Tensor]:
    shapes = {"linear": (3,), "conv1d": (3, 9), "conv2d": (3, 5, 5)}
    return draw(count, *shapes[kind]), draw(count, 2, seed=1)


def risk_of(kind: str, slope: float = 0.2) -> EmpiricalRisk:
    x, y = data(kind)
    model = network(kind, slope)
    model(x)
    return EmpiricalRisk(model, "mse", (x, y))


@given(ridge=st.floats(0, 10), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_ridge_is_that_of_numpy(ridge: float, seed: int) -> None:
    model, x = network("linear"), draw(30, 3, seed=seed)
    folded = fold(model, x, at="1", method=ls.LeastSquares(ridge))
    h, z = x.numpy(), model[:3](x).detach().numpy()
    h, z = h - h.mean(axis=0), z - z.mean(axis=0)
    damped = h.T @ h + ridge * h.var(axis=0).mean() * len(h) * np.eye(3)
    weight = np.linalg.solve(damped, h.T @ z).T
    left = z - h @ weight.T
    np.testing.assert_allclose(folded.model[2].weight.detach().numpy(), weight, rtol=1e-10, atol=1e-12)
    mean = folded.model[2](x).mean(dim=0)
    torch.testing.assert_close(mean, model[:3](x).mean(dim=0), rtol=1e-10, atol=1e-12)
    assert folded.report[0].r2 == pytest.approx(1 - (left**2).sum() / (z**2).sum(), abs=1e-12)


def test_a_large_ridge_leaves_the_mean_alone() -> None:
    model, x = network("linear"), draw(30, 3)
    folded = fold(model, x, at="1", method=ls.LeastSquares(1e9)).model
    assert float(folded[2].weight.detach().abs().max()) < 1e-8
    found = fold_within(EmpiricalRisk(model, "mse", (x, draw(30, 2))), budget=1e9, at="1", ridge=1e9)
    torch.testing.assert_close(found.model(x), folded(x))


@pytest.mark.parametrize("frozen", [(), ("0",), ("2",), ("0", "2")])
def test_a_fit_is_frozen_where_all_it_stands_for_was(frozen: tuple[str, ...]) -> None:
    model = network("linear")
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    fitted = fold(model, draw(30, 3), at="1", method="least-squares").model.get_submodule("2")
    assert {tensor.requires_grad for tensor in fitted.parameters()} == {frozen != ("0", "2")}


def test_a_budget_met_by_interpolation_is_told() -> None:
    model = network("linear")
    few, many = ((x := draw(n, 3), model(x).detach() + 0.1) for n in (4, 60))
    found = fold_within(EmpiricalRisk(model, "mse", few), budget=0.0, at="1")
    assert found.removed == ("1",)
    assert found.reason.startswith("1 of 1 layers leave within the budget. Check the map in place of '1' on held-out")
    assert math.isnan(found.steps[1].adjusted_r2)
    checked = fold_within(EmpiricalRisk(model, "mse", few), budget=0.0, at="1", held_out=many)
    assert checked.reason.startswith("No fold meets the budget")
    enough = fold_within(EmpiricalRisk(model, "mse", many), budget=9.0, at="1")
    assert enough.reason == "1 of 1 layers leave within the budget."
    assert fold(model, few[0], at="1", method="least-squares").report[0].reason.endswith("whatever the layer does.")


@pytest.mark.parametrize("ridge", [-0.1, math.nan, math.inf])
def test_a_ridge_that_is_none_is_refused(ridge: float) -> None:
    model, x = network("linear"), draw(30, 3)
    with pytest.raises(ls.LiftscapeError, match="ridge must be a finite number of at least 0"):
        fold(model, x, at="1", method=ls.LeastSquares(ridge))
    with pytest.raises(TypeError, match="ridge"):
        fold(model, x, ridge=0.1)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d"])
def test_the_predicted_change_is_theory_s_formula(kind: str) -> None:
    """⟨E[e hᵀ], Ŵ⟩ + ⟨E e, b̂⟩ − E⟨e, z⟩ with e = ∂ℓ/∂z, by hand; and the rest is of second order."""
    risk = risk_of(kind)
    x, y = data(kind)
    result = fold(risk, at="1", method="least-squares")
    row, model = result.report[0], risk.model
    z = model[:3](x).detach().requires_grad_()
    (e,) = torch.autograd.grad(risk.loss(model[3:](z), y), z)
    step = result.model[2](x).detach() - z.detach()
    assert row.predicted == pytest.approx((e * step).sum().item(), rel=1e-10)
    if kind == "linear":
        fitted = result.model[2]
        formula = (e.T @ x * fitted.weight).sum() + e.sum(dim=0) @ fitted.bias - (e * z).sum()
        assert row.predicted == pytest.approx(formula.item(), rel=1e-10)
    change = risk.loss(result.model(x), y) - risk.loss(model(x), y)
    assert row.measured == pytest.approx(change.item(), rel=1e-10)
    r = 1e-4
    slope = (risk.loss(model[3:](z + r * step), y) - risk.loss(model[3:](z - r * step), y)) / (2 * r)
    assert row.predicted == pytest.approx(slope.item(), rel=1e-5)


def test_the_rest_falls_with_the_square_of_what_is_nonlinear() -> None:
    rests = []
    for small in (0.1, 0.05, 0.025):
        row = fold(risk_of("linear", slope=1 - small), at="1", method="least-squares").report[0]
        rests.append(abs(row.measured - row.predicted))
    orders = [math.log2(before / after) for before, after in itertools.pairwise(rests)]
    assert all(1.9 < order < 2.1 for order in orders), (rests, orders)


def test_without_a_risk_and_for_an_exact_fold_no_change_is_told() -> None:
    model, x = network("linear"), draw(30, 3)
    row = fold(model, x, at="1", method="least-squares").report[0]
    assert math.isnan(row.predicted)
    assert math.isnan(row.measured)
    exact = fold(EmpiricalRisk(network("linear", slope=1.0), "mse", (x, draw(30, 2)))).report[0]
    assert exact.folded
    assert math.isnan(exact.predicted)


def test_conv1d_is_fitted_as_numpy_fits_windows() -> None:
    model, (x, _) = network("conv1d"), data("conv1d")
    model(x)
    folded = fold(model, x, at="1", method="least-squares").model[2]
    assert isinstance(folded, nn.Conv1d)
    assert (folded.kernel_size, folded.stride) == ((5,), (2,))
    windows = x.unfold(2, 5, 2).movedim(1, 2).reshape(-1, 15).numpy()
    z = model[:3](x).detach().movedim(1, 2).reshape(-1, 4).numpy()
    solution = np.linalg.lstsq(np.hstack([windows, np.ones((len(windows), 1))]), z, rcond=None)[0]
    np.testing.assert_allclose(folded.weight.detach().flatten(1).numpy(), solution[:-1].T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(folded.bias.detach().numpy(), solution[-1], rtol=1e-9, atol=1e-11)


def test_conv1d_between_linear_neurons_is_found_exactly() -> None:
    model, (x, _) = network("conv1d", slope=1.0), data("conv1d")
    model(x)
    result = fold(model, x, at="1", method="least-squares")
    assert result.report[0].r2 == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(result.model(x), model(x), rtol=1e-9, atol=1e-10)


def test_functional_activations_are_predicted_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.tanh(self.b(torch.nn.functional.gelu(self.a(x)))))

    torch.manual_seed(0)
    risk = EmpiricalRisk(Net().double(), "mse", (draw(40, 3), draw(40, 2, seed=1)))
    row = fold(risk, at="gelu", method="least-squares").report[0]
    assert math.isfinite(row.predicted)
    assert row.measured != 0
    assert abs(row.measured - row.predicted) < abs(row.measured)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9, 1e9])
def test_the_fit_does_not_depend_on_a_features_unit(scale: float) -> None:
    plain, x = network("linear"), draw(200, 3)
    scaled = network("linear")
    scaled[0].weight.data[:, 1] /= scale
    units = torch.tensor([1.0, scale, 1.0], dtype=F64)
    one, other = (fold(m, data, at="1", method="least-squares") for m, data in ((plain, x), (scaled, x * units)))
    assert other.report[0].r2 == pytest.approx(one.report[0].r2, abs=1e-9)
    torch.testing.assert_close(other.model[2].weight * units, one.model[2].weight, rtol=1e-7, atol=1e-9)


def test_a_constant_feature_is_left_out() -> None:
    model, x = network("linear"), draw(200, 3)
    x[:, 2] = 0.1
    folded = fold(model, x, at="1", method="least-squares")
    assert float(folded.model[2].weight[:, 2].detach().abs().max()) == 0
    h, z = x[:, :2].numpy(), model[:3](x).detach().numpy()
    solution = np.linalg.lstsq(np.hstack([h, np.ones((200, 1))]), z, rcond=None)[0]
    np.testing.assert_allclose(folded.model[2].weight[:, :2].detach().numpy(), solution[:2].T, rtol=1e-9, atol=1e-11)
