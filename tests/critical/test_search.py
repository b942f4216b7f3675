"""Searching critical points: the known ones of Iris, statuses that never oversell, and planted ones."""

import copy

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.curvature import inertia

F64 = torch.float64


def iris(hidden: int, activation: str = "tanh") -> ls.EmpiricalRisk:
    return ls.EmpiricalRisk(ls.nets.mlp((3, hidden, 1), activation=activation), "mse", ls.data.iris_petal_width())


@pytest.mark.parametrize(
    ("hidden", "activation", "known"),
    [(1, "tanh", [0.057693]), (2, "tanh", [0.050482, 0.052617]), (1, "elu", [0.058669, 0.059458])],
)
def test_the_known_minima_of_iris_are_found(hidden: int, activation: str, known: list[float]) -> None:
    risk = iris(hidden, activation)
    found = ls.find_critical_points(risk, starts=48, method=("minimum",))
    values = [point.value for point in found.points]
    for value in known:
        assert any(abs(value - own) < 6e-7 for own in values), (value, values)
    assert sum(found.counts.values()) == found.starts == 48
    assert sum(found.hits) == found.counts["converged"]
    for point in found.points:
        assert point.gradient_norm <= 1e-12
        assert inertia(risk.hessian(point.params), gradient_norm=point.gradient_norm).negative == 0


def test_the_same_seed_gives_the_same_bytes_and_the_model_stays() -> None:
    risk = iris(2)
    before = copy.deepcopy(risk.model.state_dict())
    runs = [ls.find_critical_points(risk, starts=8, generator=3, max_steps=60) for _ in range(2)]
    assert [point.value for point in runs[0].points] == [point.value for point in runs[1].points]
    for one, other in zip(runs[0].points, runs[1].points, strict=True):
        assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)
    assert all(torch.equal(before[name], tensor) for name, tensor in risk.model.state_dict().items())


def test_a_minimum_at_infinity_is_diverging() -> None:
    x = torch.tensor([[-1.0], [-0.5], [0.5], [1.0]], dtype=F64)
    risk = ls.EmpiricalRisk(nn.Linear(1, 2).to(F64), "cross_entropy", (x, torch.tensor([0, 0, 1, 1])))
    search = ls.find_critical_point(risk, method="minimum")
    assert search.status == "diverging"
    assert search.advice


def test_a_search_that_ran_out_of_steps_says_so() -> None:
    search = ls.find_critical_point(iris(2), max_steps=2)
    assert search.status in {"not converged", "gradient-flat"}
    assert len(search.history) == 2


@pytest.mark.parametrize("kind", ["minimum", "saddle"])
@pytest.mark.parametrize("widths", [(3, 2, 2), (3, 3, 3, 2)])
def test_planted_points_are_critical_and_of_their_kind(
    kind: str, widths: tuple[int, ...], generator: torch.Generator
) -> None:
    model = ls.nets.mlp(widths)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    inputs = torch.randn(150, widths[0], generator=generator, dtype=F64)
    risk = ls.EmpiricalRisk(
        model, "mse", (inputs, ls.plant_critical_point(model, inputs, kind=kind, generator=generator))
    )
    assert float(risk.gradient().norm()) <= 1e-13
    found = inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))
    assert found.decided
    assert (found.negative > 0) == (kind == "saddle")


def test_planting_refuses_too_few_samples_and_a_flat_second_order_term(generator: torch.Generator) -> None:
    inputs = torch.randn(60, 3, generator=generator, dtype=F64)
    with pytest.raises(ls.LiftscapeError, match="more residuals than parameters"):
        ls.plant_critical_point(ls.nets.mlp((3, 2, 2)), inputs[:4])
    relu = ls.nets.mlp((3, 2, 1), activation="relu")
    with pytest.raises(ls.LiftscapeError, match=r"saddle cannot be planted|ill conditioned"):
        ls.plant_critical_point(relu, inputs, kind="saddle")


def test_misuse_raises() -> None:
    with pytest.raises(ls.LiftscapeError):
        ls.find_critical_points(iris(1), starts=0)
    with pytest.raises(ls.LiftscapeError):
        ls.find_critical_point(iris(1), max_steps=0)
