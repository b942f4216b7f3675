"""The linearity of layers: exact where it is exact, and what the best affine map explains and costs."""

import numpy as np
import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.linearity import find_runs, fit_runs

F64 = torch.float64


def network(activation: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 6), activation, nn.Linear(6, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def batches(count: int = 5) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    xs = [torch.randn(7 + index, 3, generator=g, dtype=F64) + 30 for index in range(count)]
    return [(x, x.sum(dim=1, keepdim=True).sin()) for x in xs]


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.LeakyReLU()])
def test_the_best_affine_map_is_that_of_least_squares_on_all_data_at_once(activation: nn.Module) -> None:
    model, data = network(activation), batches()
    fit = fit_runs(model, find_runs(model, data), data)["1"]
    x = torch.cat([x for x, _ in data])
    with torch.no_grad():
        z = model[:3](x)
    design = np.concatenate([x.numpy(), np.ones((len(x), 1))], axis=1)
    right, *_ = np.linalg.lstsq(design, z.numpy(), rcond=None)
    residual = z.numpy() - design @ right
    r2 = 1 - (residual**2).sum() / ((z - z.mean(0)).numpy() ** 2).sum()
    assert fit.r2 == pytest.approx(r2, abs=1e-9)
    np.testing.assert_allclose(x.numpy() @ fit.weight.numpy().T + fit.bias.numpy(), design @ right, atol=1e-8)


@pytest.mark.parametrize(("samples", "ridge"), [(9, 0.0), (40, 0.0), (9, 0.5)])
def test_adjusted_r2_is_that_of_the_degrees_of_freedom_left(samples: int, ridge: float) -> None:
    """With dependent features; p is the trace of the hat matrix, by hand."""
    model, g = network(nn.Tanh()), torch.Generator().manual_seed(3)
    x = torch.randn(samples, 2, generator=g, dtype=F64) @ torch.randn(2, 3, generator=g, dtype=F64)
    fit = fit_runs(model, find_runs(model, x), x, ridge)["1"]
    centred = (x - x.mean(dim=0)).numpy()
    damped = centred.T @ centred + ridge * centred.var(axis=0).mean() * samples * np.eye(3)
    p = np.trace(centred @ np.linalg.pinv(damped, rcond=1e-10) @ centred.T)
    assert ridge or p == pytest.approx(2, abs=1e-9)
    assert 1 - fit.adjusted_r2 == pytest.approx((1 - fit.r2) * (samples - 1) / (samples - 1 - p), rel=1e-8)
    assert not fit.interpolates


@pytest.mark.parametrize(("samples", "interpolates"), [(3, True), (4, True), (5, False)])
def test_a_map_of_as_many_inputs_as_samples_says_nothing(samples: int, interpolates: bool) -> None:
    model, x = network(nn.ReLU()), torch.randn(samples, 3, generator=torch.Generator().manual_seed(5), dtype=F64)
    fit = fit_runs(model, find_runs(model, x), x)["1"]
    assert fit.interpolates == interpolates
    assert (fit.r2 > 1 - 1e-12) == interpolates
    assert ("passes through all" in fit.explanation()) == interpolates
    row = ls.layer_linearity(model, x).rows[0]
    assert np.isnan(row.adjusted_r2) == interpolates


def test_a_lifted_layer_is_linear_explains_all_and_costs_nothing() -> None:
    model, data = network(nn.Tanh()), batches()
    lifted = ls.lift(model, data, "2", width=4, activation="elu").model
    rows = {row.name: row for row in ls.layer_linearity(ls.EmpiricalRisk(lifted, "mse", data)).rows}
    inserted = rows["2.activation"]
    assert (inserted.exactly_linear, inserted.occupancy) == (True, 1.0)
    assert inserted.r2 == pytest.approx(1, abs=1e-12)
    assert abs(inserted.loss_change) < 1e-12


def test_relu_pairs_that_cancel_have_no_piece_but_an_affine_map() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
        model[0].bias.zero_()
    x = torch.linspace(-1, 1, 9, dtype=F64)[:, None]
    (row,) = ls.layer_linearity(ls.EmpiricalRisk(model, "mse", (x, x**2))).rows
    assert (row.exactly_linear, row.occupancy) == (False, 0.0)
    assert row.r2 == pytest.approx(1, abs=1e-12)
    assert abs(row.loss_change) < 1e-12


def test_the_change_of_loss_is_that_of_the_replaced_network() -> None:
    model, data = network(nn.ReLU()), batches()
    risk = ls.EmpiricalRisk(model, "mse", data)
    row = ls.layer_linearity(risk).rows[1]
    fit = fit_runs(model, find_runs(model, data), data)["3"]
    by_hand = 0.0
    for x, y in data:
        with torch.no_grad():
            out = model[:2](x)
            h = out @ fit.weight.T if out.shape[1] == fit.weight.shape[1] else model[:2](x)
            by_hand += float(((h + fit.bias) - y).square().sum())
    by_hand /= sum(len(x) for x, _ in data)
    assert row.loss_change == pytest.approx(by_hand - float(risk.value()), rel=1e-9)


def test_a_layer_without_an_affine_reader_has_no_map() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()
    (row,) = ls.layer_linearity(model, torch.randn(5, 3, dtype=F64)).rows
    assert np.isnan(row.r2)
    assert np.isnan(row.loss_change)


class Counted:
    """Batches that count how often they are read."""

    def __init__(self, data: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.data, self.passes = data, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.data)


def test_pieces_and_maps_are_measured_in_one_pass() -> None:
    data = Counted(batches())
    assert len(ls.layer_linearity(network(nn.Tanh()), data).rows) == 2
    # Beside the one pass only the first batch is looked at, to see what calls what.
    assert data.passes == 2


def test_an_activation_that_is_never_called_has_no_row_and_hides_no_other():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.spare, self.last = nn.Linear(2, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 1)

        def forward(self, x):
            return self.last(self.act(self.first(x)))

    assert [row.name for row in ls.layer_linearity(Unused(), torch.randn(5, 2)).rows] == ["act"]
