"""The way down: its path, its site, its width, and what it leaves alone."""

import itertools

import pytest
import torch

import liftscape as ls
from tests.escaping.stuck import iris, planted, state

ACTIVATIONS = ("relu", "elu", "leaky_relu", "gelu", "hardtanh")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("at", ["0", "2"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_path_is_on_the_manifold_with_the_risk_constant_and_then_falls(
    activation: str, at: str, count: int
) -> None:
    risk = iris((3, 2, 1))
    found = ls.escape(risk, at=at, activation=activation, neurons=count, starts=8)
    path = found.path
    grid = torch.linspace(0, 1, 31).tolist()
    values = [float(risk.with_model(path(t)).value()) for t in grid]
    for t, value in zip(grid, values, strict=True):
        if t < path.boundary - 1e-6:
            assert path.manifold.contains(path(t)), t
            assert float(risk.with_model(path(t)).gradient().norm()) < 1e-8
        elif t > path.departure:
            assert not path.manifold.contains(path(t)), t
        if t <= path.departure:
            assert abs(value - found.value) <= 1e-12 * found.value
    falling = [value for t, value in zip(grid, values, strict=True) if t > path.departure - 1e-6]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    assert values[-1] == float(risk.with_model(found.model).value())
    inserted = found.model.get_submodule(f"{at}.A")
    assert inserted.out_features == found.width >= found.rank + count
    # A small move along the path is a small move of the parameters, also across the corners.
    for t in (path.boundary, path.departure):
        before, after = (torch.cat([p.detach().flatten() for p in path(t + s).parameters()]) for s in (-1e-9, 1e-9))
        assert float((before - after).norm()) < 1e-5 * float(before.norm())


def test_the_site_is_the_one_with_the_largest_prediction_and_more_neurons_predict_more() -> None:
    risk = iris()
    each = {at: ls.escape(risk, at=at).predicted_decrease for at in ("0", "2")}
    found = ls.escape(risk)
    assert found.predicted_decrease == pytest.approx(max(each.values()), rel=0.05)
    assert found.site == max(each, key=lambda at: each[at])
    predicted = [ls.escape(risk, at="2", neurons=count).predicted_decrease for count in (1, 2, 3)]
    assert predicted == sorted(predicted)
    assert predicted[2] > 1.2 * predicted[0]


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_width_grows_with_what_must_be_carried_and_wider_layers_work_too(activation: str) -> None:
    risk = planted(2)
    for width in (None, 6, 12):
        found = ls.escape(risk, at="0", activation=activation, width=width)
        assert found.width == (width or found.width)
        assert found.decrease > 0
        assert abs(float(risk.with_model(found.path(0.0)).value()) - found.value) < 1e-12 * found.value


def test_the_network_as_given_is_left_alone_and_the_same_seed_gives_the_same_network() -> None:
    risk = iris((3, 2, 1))
    risk.model.train()
    before, mode = state(risk.model), risk.model.training
    first, second = ls.escape(risk), ls.escape(risk)
    assert all(torch.equal(a, b) for a, b in zip(before, state(risk.model), strict=True))
    assert risk.model.training == mode
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in risk.model.modules())
    assert all(parameter.grad is None for parameter in risk.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(state(first.model), state(second.model), strict=True))
    assert first.to_json() == second.to_json()


def test_a_sample_of_the_rows_is_searched_where_the_budget_holds_no_more_and_the_prediction_is_of_all() -> None:
    risk = planted(1)
    x, y = next(iter(risk.batches))
    split = ls.EmpiricalRisk(risk.model, "mse", [(x[:20], y[:20]), (x[20:], y[20:])])
    found = ls.escape(split, at="2", memory_budget=8 * 6 * 32 * 40)
    assert (found.rows, found.searched < 60) == (60, True)
    assert found.decrease == pytest.approx(found.predicted_decrease, rel=1e-9)
    whole = ls.escape(split, at="2")
    assert (whole.rows, whole.searched) == (60, 60)
    assert whole.predicted_decrease == pytest.approx(ls.escape(risk, at="2").predicted_decrease, rel=1e-3)


def test_float32_networks_escape_too() -> None:
    risk = planted(4, torch.float32)
    found = ls.escape(risk, at="2")
    assert all(parameter.dtype == torch.float32 for parameter in found.model.parameters())
    assert found.decrease == pytest.approx(found.predicted_decrease, rel=1e-2)
