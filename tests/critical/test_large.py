"""Certificates without a dense Hessian: what they claim holds in the dense one, and they claim no more."""

import pytest
import torch

import liftscape as ls


def planted(kind: str, seed: int, widths: tuple[int, ...] = (3, 3, 2)) -> ls.EmpiricalRisk:
    """Plant a point at the first drawn weights whose Jacobian is well conditioned."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        model = ls.nets.mlp(widths, "tanh", dtype=torch.float64, generator=generator)
        x = torch.randn(60, widths[0], generator=generator, dtype=torch.float64)
        try:
            targets = ls.plant_critical_point(model, x, kind=kind, generator=generator)
        except ls.LiftscapeError:
            continue
        return ls.EmpiricalRisk(model, "mse", (x, targets))


def test_progress_never_falls() -> None:
    seen: list[tuple[int, int]] = []
    risk = planted("saddle", 0, (4, 6, 4))
    assert ls.certify(risk, max_parameters=5, progress=lambda *at: seen.append(at)).kind == "strict saddle"
    done = [each for each, _ in seen]
    assert done == sorted(done)
    assert len(done) == len(set(done)) > 20
    assert all(each <= total for each, total in seen)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["minimum", "saddle"])
def test_a_planted_point_gets_no_kind_that_the_dense_hessian_contradicts(kind: str, seed: int) -> None:
    risk = planted(kind, seed)
    dense = ls.certify(risk)
    large = ls.certify(risk, max_parameters=5)
    assert large.inertia is None
    counts = large.evidence["partial_inertia"]
    assert dense.inertia is not None
    assert counts["negative_at_least"] <= dense.inertia.negative
    assert counts["positive_at_least"] <= dense.inertia.positive
    if dense.kind == "strict saddle":
        assert large.kind in {"strict saddle", "undecided"}
    else:
        assert large.kind in {"minimum candidate", "undecided"}


def test_saddles_are_proved_and_minima_are_candidates() -> None:
    assert ls.certify(planted("saddle", 0), max_parameters=5).kind == "strict saddle"
    assert ls.certify(planted("minimum", 0), max_parameters=5).kind == "minimum candidate"


@pytest.mark.parametrize("length", [1e-12, 1e-10, 1e-8, 1e-6])
@pytest.mark.parametrize("seed", range(3))
def test_next_to_a_lifted_minimum_no_saddle_is_claimed(length: float, seed: int) -> None:
    risk = planted("minimum", seed)
    lifted = ls.lift(risk.model, next(iter(risk.batches))[0], "2", width=4, activation="elu")
    there = risk.with_model(lifted.model)
    generator = torch.Generator().manual_seed(seed)
    theta = there.flatten()
    nearby = theta + length * torch.randn(len(theta), generator=generator, dtype=torch.float64)
    certificate = ls.certify(there.at(there.unflatten(nearby)), max_parameters=5, tolerance=1e-4)
    assert certificate.kind in {"minimum candidate", "undecided"}, certificate.reason


def test_a_network_in_training_gets_a_plateau_reading_either_way() -> None:
    model = ls.nets.mlp((3, 6, 1), "tanh", dtype=torch.float64)
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x.sum(dim=1, keepdim=True).sin()))
    dense, large = (ls.certify(risk, max_parameters=most).evidence["plateau"] for most in (4000, 5))
    assert dense["state"] == large["state"]
    assert dense["lowest_curvature"] == pytest.approx(large["lowest_curvature"], rel=1e-2)
    assert dense["newton_step"]["predicted_decrease"] == pytest.approx(
        large["newton_step"]["predicted_decrease"], rel=1e-2
    )
