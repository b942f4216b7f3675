"""Escapes from lifted points, and what is refused or found to be none."""

import itertools
import re
from typing import Any

import pytest
import torch
from torch import nn

import liftscape as ls
from tests.escaping.stuck import F64, iris, planted, planted_cnn, state


@pytest.mark.parametrize("activation", ["relu", "elu", "leaky_relu", "gelu", "hardtanh"])
@pytest.mark.parametrize("at", ["0", "2"])
def test_from_a_lifted_point_its_own_layer_is_bent_along_a_path_that_starts_there(at: str, activation: str) -> None:
    shallow = iris((3, 2, 1))
    lifted = ls.lift(shallow.model, shallow.batches, at, width=4, activation=activation)
    found = ls.escape(shallow, embedding=lifted, starts=8)
    assert (found.status, found.width) == ("found", 4)
    assert all(torch.equal(a, b) for a, b in zip(state(found.path(0.0)), state(lifted.model), strict=True))
    assert found.path.manifold is lifted.manifold
    grid = torch.linspace(0, 1, 41).tolist()
    values = [float(shallow.with_model(found.path(t)).value()) for t in grid]
    for t, value in zip(grid, values, strict=True):
        if t < found.path.boundary - 1e-6:
            assert lifted.manifold.contains(found.path(t)), t
        if t <= found.path.departure:
            assert abs(value - found.value) <= 1e-12 * found.value
    falling = [value for t, value in zip(grid, values, strict=True) if t > found.path.departure - 1e-6]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    if at == "2":
        assert found.decrease == pytest.approx(found.predicted_decrease, rel=1e-6)


def test_a_lift_without_a_spare_alive_neuron_is_refused_with_the_width_it_needs() -> None:
    shallow = iris((3, 2, 1))
    tight = ls.lift(shallow.model, shallow.batches, "0", width=2, activation="elu")
    with pytest.raises(ls.LiftscapeError, match=r"needs a layer of width ≥ 3 with one spare alive neuron \(rank W = 2"):
        ls.escape(shallow, embedding=tight)
    with pytest.raises(ls.LiftscapeError, match="width ≥ 3"):
        ls.escape(shallow, at="0", activation="elu", width=2)
    assert ls.escape(shallow, at="0", activation="elu", width=3).width == 3
    # Where no map was named, those for which the width will do are tried.
    assert ls.escape(shallow, activation="elu", width=2).site == "2"
    with pytest.raises(ls.LiftscapeError, match="at '0' with 2 neurons that leave needs a layer of width ≥ 4"):
        ls.escape(shallow, activation="elu", width=2, neurons=2)
    # From a dead piece nothing is left over to be carried.
    assert ls.escape(planted(0), at="2", activation="relu").width == ls.escape(planted(0), at="2").rank + 1


def test_embeddings_without_a_known_path_get_a_further_layer() -> None:
    cnn = planted_cnn()
    for embedding in (
        ls.lift(cnn.model, cnn.batches, "2", activation="elu"),
        ls.lift(cnn.model, cnn.batches, ["0", "5"], activation="elu"),
    ):
        found = ls.escape(
            cnn, embedding=embedding, at="5" if "5.A" not in dict(embedding.model.named_modules()) else "5.B"
        )
        assert found.decrease > 0
        assert found.decrease == pytest.approx(found.predicted_decrease, rel=1e-6)


def test_equal_inputs_with_conflicting_labels_are_told_from_a_way_down() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(12, 2, generator=draws, dtype=F64).repeat(2, 1)
    noise = torch.randn(12, 1, generator=draws, dtype=F64)
    weights = torch.tensor([[1.0], [-2.0]], dtype=F64)
    y = x @ weights + torch.cat([noise, -noise])
    risk = ls.EmpiricalRisk(ls.nets.mlp((2, 1)), "mse", (x, y))
    stuck = risk.with_model(ls.find_critical_point(risk, method="minimum").model)
    for activation in ("relu", "elu", "gelu"):
        found = ls.escape(stuck, activation=activation)
        assert (found.status, found.predicted_decrease, found.decrease, found.path) == ("none", 0.0, 0.0, None)
        assert "No half-space separates" in found.reason
        assert "conflicting labels" in found.reason
        assert all(torch.equal(a, b) for a, b in zip(state(found.model), state(stuck.model), strict=True))
    # One pair less in conflict, and there is a way down.
    y[0] += 0.5
    risk = ls.EmpiricalRisk(ls.nets.mlp((2, 1)), "mse", (x, y))
    assert ls.escape(risk.with_model(ls.find_critical_point(risk, method="minimum").model)).decrease > 0


def test_a_network_that_is_not_stuck_is_told_what_its_gradient_would_do() -> None:
    risk = ls.EmpiricalRisk(ls.nets.mlp((3, 2, 1)), "mse", ls.data.iris_petal_width())
    before = state(risk.model)
    with pytest.raises(ls.LiftscapeError, match="not stuck: one gradient step of length") as refusal:
        ls.escape(risk)
    lowered = re.search(r"lowers R from ([\d.e-]+) to ([\d.e-]+)", str(refusal.value))
    assert lowered is not None
    assert float(lowered[1]) == pytest.approx(float(risk.value()), rel=1e-4)
    assert float(lowered[2]) < 0.99 * float(lowered[1])
    assert all(torch.equal(a, b) for a, b in zip(before, state(risk.model), strict=True))
    assert ls.escape(risk, tolerance=10.0).decrease > 0


def test_a_residual_of_zero_is_said() -> None:
    x = torch.randn(20, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    model = ls.nets.mlp((3, 2, 1))
    risk = ls.EmpiricalRisk(model, "mse", (x, model(x).detach()))
    with pytest.raises(ls.LiftscapeError, match="the residual is zero: with R = 0 no sample pulls"):
        ls.escape(risk)


def test_where_no_layer_can_be_inserted_each_map_says_why() -> None:
    x = torch.randn(20, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    bare = nn.Sequential(nn.Linear(3, 1, bias=False)).double()
    risk = ls.EmpiricalRisk(bare, "mse", (x, x[:, :1].abs()))
    with pytest.raises(
        ls.LiftscapeError, match="no map in front of which a layer can be inserted; '0': it has no bias"
    ):
        ls.escape(risk)
    with pytest.raises(ls.LiftscapeError, match="no layer can be inserted at '0': it has no bias"):
        ls.escape(risk, at="0")
    grouped = nn.Sequential(nn.Conv1d(2, 2, 1, groups=2)).double()
    risk = ls.EmpiricalRisk(grouped, "mse", (x[:, None, :2].transpose(1, 2), x[:, :2, None]))
    with pytest.raises(ls.LiftscapeError, match=r"in .*groups"):
        ls.escape(risk)
    with pytest.raises(ls.LiftscapeError, match="did you mean '2'"):
        ls.escape(iris(), at="22")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"neurons": 0}, "neurons and starts must be at least 1"),
        ({"starts": 0}, "neurons and starts must be at least 1"),
        ({"tolerance": -1.0}, "tolerance and ridge at least 0, but 1, 32 and -1.0"),
        ({"ridge": -0.5}, "tolerance and ridge at least 0, but 1, 32 and -0.5"),
        ({"margin": 0.5}, "margin is a share"),
        ({"activation": "tanh"}, "no affine piece or tail with a slope other than 0"),
        ({"activation": nn.Identity()}, "no end of an affine piece"),
        ({"activation": nn.Hardshrink()}, "without a jump"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.escape(iris(), **settings)


@pytest.mark.usefixtures("unchecked")
def test_an_embedding_takes_the_place_of_no_risk_and_a_risk_of_no_embedding() -> None:
    risk = iris()
    with pytest.raises(ls.LiftscapeError, match="embedding must be an Embedding, as lift returns"):
        ls.escape(risk, embedding=risk)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ls.LiftscapeError, match=r"escape needs a risk, but Embedding was given; give EmpiricalRisk\("):
        ls.escape(ls.lift(risk.model, risk.batches, "2"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("choice", [{"at": "2"}, {"width": 5}, {"activation": "elu"}])
def test_what_a_lifted_layer_has_settled_cannot_be_chosen_again(choice: dict[str, Any]) -> None:
    risk = iris()
    lifted = ls.lift(risk.model, risk.batches, "2", activation="relu")
    with pytest.raises(ls.LiftscapeError, match=f"lifted at '2', .*; leave {next(iter(choice))} out"):
        ls.escape(risk, embedding=lifted, **choice)
