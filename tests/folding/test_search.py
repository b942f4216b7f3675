"""The search over folds keeps its budget, orders by cost for each operation, and finds what is linear."""

import copy

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.folding import operations

F64 = torch.float64


def risk(slopes: tuple[float, ...] = (0.9, 0.2, 0.99), seed: int = 0) -> ls.EmpiricalRisk:
    """A network whose activations are linear to different degrees, on what it says itself plus noise."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(3, 6)]
    for slope in slopes:
        layers += [nn.LeakyReLU(slope), nn.Linear(6, 6)]
    model = nn.Sequential(*layers, nn.LeakyReLU(0.1), nn.Linear(6, 2)).to(F64)
    x = torch.randn(200, 3, dtype=F64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        y = model(x) + 1e-3 * torch.randn(200, 2, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (x, y))


def test_operations_are_counted_for_one_sample() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
    assert operations(model, torch.zeros(7, 1, 8, 8)) == 27 * 16 + 240
    assert operations(nn.Linear(4, 2), torch.zeros(7, 5, 4)) == 5 * 8


@pytest.mark.parametrize("budget", [0.0, 0.05, 0.5, 100.0])
def test_the_network_returned_is_the_smallest_within_the_budget(budget: float) -> None:
    given = risk()
    before = copy.deepcopy(given.model.state_dict())
    found = ls.fold_within(given, budget=budget)
    value = float(given.with_model(found.model).value())
    assert value <= (1 + budget + 1e-13) * float(given.value())
    inside = [step for step in found.steps if step.within]
    assert operations(found.model, given.batches) == min(step.operations for step in inside)
    assert [step.activation for step in found.steps[1 : len(found.removed) + 1]] == list(found.removed)
    assert all(torch.equal(before[name], tensor) for name, tensor in given.model.state_dict().items())
    for step in found.steps:
        assert step.within == (step.held_out <= (1 + budget + 1e-13) * found.steps[0].held_out)


def test_layers_leave_in_the_order_of_their_linearity_whichever_comes_first() -> None:
    found = ls.fold_within(risk((0.9, 0.2, 0.99)), budget=1e6)
    assert [step.activation for step in found.steps[1:3]] == ["5", "1"]
    assert set(found.removed) == {"1", "3", "5", "7"}
    assert [step.operations for step in found.steps] == sorted((step.operations for step in found.steps), reverse=True)


def test_lifted_layers_leave_first_exactly_and_at_no_cost() -> None:
    given = risk()
    x, _ = next(iter(given.batches))
    lifted = given.with_model(ls.lift(given.model, x, "2", width=[7, 7], activation="elu").model)
    found = ls.fold_within(lifted, budget=0.0)
    assert [step.how for step in found.steps[1:3]] == ["exact", "exact"]
    assert len(found.removed) >= 2
    assert operations(found.model, x) <= operations(given.model, x)
    assert float(given.with_model(found.model).value()) == pytest.approx(float(given.value()), rel=1e-10)


def test_accuracy_on_held_out_data_is_what_is_kept() -> None:
    x, y = ls.data.digits()
    x, y = x.float(), y
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 30),
        nn.ReLU(),
        nn.Linear(30, 30),
        nn.LeakyReLU(0.8),
        nn.Linear(30, 30),
        nn.ReLU(),
        nn.Linear(30, 10),
    )
    rule = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        rule.zero_grad()
        nn.functional.cross_entropy(model(x[:1000]), y[:1000]).backward()
        rule.step()
    given = ls.EmpiricalRisk(model, "cross_entropy", (x[:1000], y[:1000]))
    found = ls.fold_within(given, budget=0.01, by="accuracy", held_out=(x[1000:], y[1000:]))
    accuracy = lambda network: float((network(x[1000:]).argmax(1) == y[1000:]).double().mean())
    assert "3" in found.removed
    assert accuracy(found.model) >= accuracy(model) - 0.01
    assert found.steps[0].held_out == pytest.approx(accuracy(model))


@pytest.mark.usefixtures("unchecked")
def test_a_budget_that_cannot_be_met_says_what_is_nearest() -> None:
    given = risk((0.1, 0.1, 0.1))
    found = ls.fold_within(given, budget=0.0, at=["1"])
    assert found.removed == ()
    assert "the nearest gives" in found.reason
    budgets = [{"budget": wrong} for wrong in (-1.0, float("nan"), True, float("inf"), "1%")]
    for wrong in (*budgets, {"budget": 0.1, "by": "speed"}):
        with pytest.raises(ls.LiftscapeError, match="budget must be a number of at least 0"):
            ls.fold_within(given, **wrong)


def test_a_name_is_one_layer_and_not_its_letters() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(7) for layer in (nn.Linear(3, 3), nn.LeakyReLU(0.9))]
    model = nn.Sequential(*layers, nn.Linear(3, 1)).to(F64)
    x = torch.randn(50, 3, dtype=F64)
    found = ls.fold_within(ls.EmpiricalRisk(model, "mse", (x, x[:, :1])), budget=1e9, at="13")
    assert found.removed == ("13",)


def test_what_a_budget_cannot_be_of_is_said_and_the_given_network_is_never_handed_back() -> None:
    given = risk((0.1, 0.1, 0.1))
    with pytest.raises(ls.LiftscapeError, match="accuracy needs outputs"):
        ls.fold_within(given, budget=0.1, by="accuracy")
    x, y = next(iter(given.batches))
    broken = ls.EmpiricalRisk(given.model, lambda output, target: (output - target).mean().log(), (x, y + 1e9))
    with pytest.raises(ls.LiftscapeError, match="is nan, so no budget can be kept"):
        ls.fold_within(broken, budget=0.1)
    assert ls.fold_within(given, budget=0.0, at=["1"]).model is not given.model
