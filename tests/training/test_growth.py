"""A network grows where its loss stands: it goes on below, with the optimizer's state, and tells of it."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64
X = torch.linspace(-2, 2, 60, dtype=F64)[:, None]
Y = torch.sin(3 * X) + 0.5 * X.abs()


def stuck(loss: str = "mse") -> ls.EmpiricalRisk:
    model = ls.nets.mlp((1, 2, 1 if loss == "mse" else 2), "tanh")
    targets = Y if loss == "mse" else (Y[:, 0] > 0.3).long()
    return ls.EmpiricalRisk(model, loss, (X, targets))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_training_goes_on_below_the_plateau_and_the_callback_hears_of_it(loss: str) -> None:
    risk = stuck(loss)
    heard: list[ls.Growth] = []
    growth = ls.GrowthSchedule(risk, layers=1, width=8, neurons=2, patience=60, callback=heard.append)
    optimizer = torch.optim.Adam(risk.model.parameters(), lr=0.01)
    alone = ls.GrowthSchedule(risk, layers=0, patience=60)
    model, optimizer = alone.train(risk.model, optimizer, 700)
    plateau = float(risk.with_model(model).value())
    model, optimizer = growth.train(model, optimizer, 700)
    assert (growth.inserted, heard) == (1, growth.attempts)
    found = heard[0].escape
    assert found.decrease > 0
    assert found.value <= plateau
    assert float(risk.with_model(model).value()) < found.value - found.decrease
    assert sum(parameter.numel() for parameter in model.parameters()) > risk.size
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}


def test_parameters_that_growth_leaves_alone_keep_their_moments() -> None:
    risk = stuck()
    model, optimizer = risk.model, torch.optim.Adam(risk.model.parameters(), lr=0.01)
    growth = ls.GrowthSchedule(risk, at="2", width=6, patience=2, fall=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        before = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
        same = model
        model, optimizer = growth.step(model, optimizer, 1.0)
    assert growth.attempts[0].step == 4
    assert model is not same
    kept = dict(model.named_parameters())
    for name in ("0.weight", "0.bias"):
        assert torch.equal(optimizer.state[kept[name]]["exp_avg"], before[name])
        assert int(optimizer.state[kept[name]]["step"]) == 4
    assert kept["2.A.weight"] not in optimizer.state


def test_nothing_happens_while_the_loss_falls_or_when_enough_layers_are_in() -> None:
    risk = stuck()
    growth = ls.GrowthSchedule(risk, layers=1, patience=5, fall=0.01)
    optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.1)
    for step in range(50):
        assert growth.step(risk.model, optimizer, 0.97**step) == (risk.model, optimizer)
    assert growth.attempts == []
    model = risk.model
    for _ in range(40):
        model, optimizer = growth.step(model, optimizer, 1.0)
    assert len(growth.attempts) == 1


def test_a_map_in_front_of_which_a_layer_stands_stays_a_site() -> None:
    risk = stuck()
    growth = ls.GrowthSchedule(risk, layers=2, at="2", patience=1, starts=4)
    model, optimizer = risk.model, torch.optim.SGD(risk.model.parameters(), lr=0.1)
    for _ in range(4):
        model, optimizer = growth.step(model, optimizer, 1.0)
    assert [attempt.escape.site for attempt in growth.attempts] == ["2", "2.B"]


def test_where_there_is_no_way_down_the_network_stays_as_it_is() -> None:
    x = torch.linspace(-1, 1, 10, dtype=F64)[:, None].repeat(2, 1)
    y = torch.cat([torch.ones(10, 1), -torch.ones(10, 1)]).double()
    model = nn.Sequential(nn.Linear(1, 1)).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    growth = ls.GrowthSchedule(ls.EmpiricalRisk(model, "mse", (x, y)), patience=1)
    assert [growth.step(model, optimizer, 1.0)[0] for _ in range(4)] == [model] * 4
    assert [attempt.escape.status for attempt in growth.attempts] == ["none", "none"]
    learnt = ls.GrowthSchedule(ls.EmpiricalRisk(model, "mse", (x, 0 * y)), patience=1)
    assert [learnt.step(model, optimizer, 1.0)[0] for _ in range(4)] == [model] * 4
    assert learnt.attempts == []


@pytest.mark.parametrize("settings", [{"layers": -1}, {"patience": 0}, {"fall": 1.0}])
def test_numbers_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(ls.LiftscapeError, match="layers must be at least 0, patience at least 1 and fall a share"):
        ls.GrowthSchedule(stuck(), **settings)


def test_batches_are_taken_in_turn_and_keyword_inputs_are_passed_on() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(1, 1, dtype=F64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(x)

    model = Named()
    risk = ls.EmpiricalRisk(model, "mse", [({"x": X[:30]}, Y[:30]), ({"x": X[30:]}, Y[30:])])
    growth = ls.GrowthSchedule(risk, layers=1, patience=20, fall=0.01)
    model, _ = growth.train(model, torch.optim.SGD(model.parameters(), lr=0.05), 200)
    assert growth.inserted == 1


def test_the_example_runs_and_grows(capsys: pytest.CaptureFixture) -> None:
    path = Path(__file__).parents[2] / "examples" / "grow_at_plateaus.py"
    assert len(path.read_text("utf-8").splitlines()) <= 60
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines if "final loss" in line] == ["2 layers inserted", "1 layer inserted"]
    finals = [float(line.rsplit(" ", 1)[1]) for line in lines if "final loss" in line]
    assert max(finals) < 0.15
