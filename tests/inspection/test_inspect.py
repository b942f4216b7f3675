"""One reading of a network: its parts are those of the curvature room, its words follow its numbers."""

import pytest
import torch

import liftscape as ls
from liftscape.curvature import Forecast, plateau_reading
from liftscape.report import use_rows


@pytest.fixture(scope="module")
def risk() -> ls.EmpiricalRisk:
    model = ls.nets.mlp((4, 20, 12, 2), "tanh", dtype=torch.float64)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ls.EmpiricalRisk(model, "mse", (x, x[:, :2].sin()))


def test_the_whole_network_and_its_layers_agree_with_the_dense_hessian(risk: ls.EmpiricalRisk) -> None:
    found = ls.inspect(risk)
    values = torch.linalg.eigvalsh(risk.hessian().to_dense())
    assert abs(found.whole.lowest - float(values[0])) <= found.whole.lowest_bound + 1e-12
    assert abs(found.whole.highest - float(values[-1])) <= found.whole.highest_bound + 1e-12
    assert found.plateau.lowest_curvature == found.whole.lowest
    assert sum(row.parameters for row in found.layers) == found.parameters == found.whole.parameters == risk.size
    assert found.plateau.newton_step == plateau_reading(risk).newton_step
    assert f"2/λ = {2 / found.whole.highest:.2g}" in found.advice
    assert max(found.layers, key=lambda row: row.highest).layer in found.verdict


def test_costs_are_said_beforehand_and_progress_reaches_its_end(risk: ls.EmpiricalRisk) -> None:
    told: list[Forecast] = []
    seen: list[tuple[int, int]] = []

    def announce(cost: Forecast) -> None:
        assert not seen
        told.append(cost)

    found = ls.inspect(risk, announce=announce, progress=lambda done, total: seen.append((done, total)))
    taken = sum(row.products for row in found.rows) + found.plateau.products
    assert seen[-1][0] == taken
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert taken / 2 <= told[0].products <= 2 * taken


def test_chosen_layers_only(risk: ls.EmpiricalRisk) -> None:
    names = [row.layer for row in ls.inspect(risk).layers]
    assert [row.layer for row in ls.inspect(risk, at=[names[-1]]).layers] == [names[-1]]
    assert ls.inspect(risk, at=[]).layers == ()


def test_the_same_seed_gives_the_same_reading_and_the_model_is_left_alone(risk: ls.EmpiricalRisk) -> None:
    before = {name: tensor.clone() for name, tensor in risk.model.state_dict().items()}
    assert ls.inspect(risk).to_json() == ls.inspect(risk).to_json()
    assert all(torch.equal(tensor, before[name]) for name, tensor in risk.model.state_dict().items())


def test_layers_that_could_leave_are_named_with_what_they_save(risk: ls.EmpiricalRisk) -> None:
    found = ls.inspect(risk, at=[])
    assert [(row.activation, row.neurons) for row in found.uses] == [("1", 20), ("3", 12)]
    assert [row.parameters_saved for row in found.uses] == [
        4 * 20 + 20 + 20 * 12 - 4 * 12,
        20 * 12 + 12 + 12 * 2 - 20 * 2,
    ]
    x, _ = next(iter(risk.batches))
    lifted = risk.with_model(ls.lift(risk.model, x, "4", width=15, activation="elu").model)
    found = ls.inspect(lifted, at=[])
    assert "'4.activation' can be folded away without any change of the outputs" in found.advice
    assert f"{12 * 15 + 15 + 15 * 2 - 12 * 2} parameters" in found.advice


def test_a_layer_that_is_nearly_linear_is_named_and_others_are_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64)
    for slope, named in ((0.98, True), (0.0, False)):
        layers = [torch.nn.Linear(3, 9), torch.nn.LeakyReLU(slope), torch.nn.Linear(9, 2)]
        model = torch.nn.Sequential(*layers).double()
        with torch.no_grad():
            y = model(x) + torch.randn(200, 2, dtype=torch.float64)
        advice = ls.inspect(ls.EmpiricalRisk(model, "mse", (x, y)), at=[]).advice
        assert ("One affine map can stand in for '1'" in advice) == named


def test_where_r_is_nearly_zero_a_budget_is_pointed_to() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64)
    layers = [torch.nn.Linear(3, 9), torch.nn.LeakyReLU(0.9), torch.nn.Linear(9, 2)]
    model = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        y = model(x) + 1e-6
    advice = ls.inspect(ls.EmpiricalRisk(model, "mse", (x, y)), at=[]).advice
    assert "what '1' hands on; a fold with a budget tells which of them leave" in advice


def test_a_linear_layer_that_borders_keep_from_folding_is_not_said_to_fold() -> None:
    torch.manual_seed(0)
    for padding, folds in ((0, True), (1, False)):
        maps = [torch.nn.Conv2d(1, 2, 3, padding=padding), torch.nn.ReLU(), torch.nn.Conv2d(2, 1, 3, padding=padding)]
        model = torch.nn.Sequential(*maps, torch.nn.Flatten()).double()
        with torch.no_grad():
            model[0].bias.fill_(50.0)
        x = torch.randn(40, 1, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            y = model(x) + 1
        found = ls.inspect(ls.EmpiricalRisk(model, "mse", (x, y)), at=[])
        assert found.uses[0].exactly_linear
        assert found.uses[0].folds_exactly == folds
        assert ("without any change" in found.advice) == (folds and found.uses[0].parameters_saved > 0)


def test_a_layer_that_the_data_never_reach_is_named() -> None:
    class Idle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = torch.nn.Linear(3, 2), torch.nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    torch.manual_seed(0)
    found = ls.inspect(
        ls.EmpiricalRisk(Idle().double(), "mse", (torch.randn(9, 3).double(), torch.zeros(9, 2).double()))
    )
    assert "R has no curvature at all in 'idle', as where the data never reach a layer." in found.verdict


def test_a_map_through_few_samples_is_no_advice() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3)).double()
    x = torch.randn(60, 20, dtype=torch.float64)
    for samples, told in ((20, True), (60, False)):
        data = (x[:samples], torch.arange(samples) % 3)
        found = ls.inspect(ls.EmpiricalRisk(net, "cross_entropy", data))
        assert found.uses[0].is_undecided == told
        assert ("cannot be told" in found.advice) == told
        assert ("can stand in for" in found.advice) != told
        assert (use_rows(found)[0]["R² of one map instead"] == "too few samples") == told
