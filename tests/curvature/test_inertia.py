"""Inertia on known spectra, and near lifted points whose gradient is not quite zero: undecided, never wrong."""

import pytest
import torch

import liftscape as ls
from liftscape.curvature import inertia, inertia_of_spectrum

F64 = torch.float64


@pytest.mark.parametrize("negative", [0, 3])
@pytest.mark.parametrize("zero", [0, 4])
def test_known_spectra_are_counted(negative: int, zero: int, generator: torch.Generator) -> None:
    values = torch.cat([-torch.arange(1.0, negative + 1), torch.zeros(zero), torch.logspace(-6, 3, 8)]).to(F64)
    frame = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=F64))[0]
    found = inertia(frame * values @ frame.T)
    assert found.triple == (negative, zero, 8)
    assert found.decided


def test_the_threshold_is_rounding_asymmetry_and_gradient() -> None:
    H = torch.diag(torch.tensor([2.0, -1.0, 0.0], dtype=F64))
    eps = torch.finfo(F64).eps
    assert inertia(H).tolerance == pytest.approx(10 * 3 * eps * 2)
    assert inertia(H, gradient_norm=1e-5).tolerance == pytest.approx(1e-4)
    H[0, 1] = 1e-9
    assert inertia(H).tolerance == pytest.approx(2 * 2**0.5 * 1e-9, rel=1e-3)


def test_near_the_threshold_it_is_undecided() -> None:
    assert not inertia_of_spectrum(torch.tensor([5e-6, 1.0], dtype=F64), 1e-6).decided
    assert inertia_of_spectrum(torch.tensor([5e-5, 1.0], dtype=F64), 1e-6).decided


def near_lifted(seed: int, kind: str) -> list[tuple["ls.curvature.Inertia", "ls.curvature.Inertia"]]:
    """The exact lifted point's inertia beside those at gradients from 1e-12 to 1e-6."""
    generator = torch.Generator().manual_seed(seed)
    model = ls.nets.mlp((3, 2, 2), generator=generator)
    inputs = torch.randn(100, 3, generator=generator, dtype=F64)
    try:
        targets = ls.plant_critical_point(model, inputs, kind=kind, generator=generator)
    except ls.LiftscapeError:
        return []
    risk = ls.EmpiricalRisk(model, "mse", (inputs, targets))
    exact = inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))
    if not exact.decided:
        return []
    embedding = ls.lift(model, inputs, "2", activation=("elu", "relu", "gelu")[seed % 3], generator=generator)
    lifted = risk.with_model(embedding.model)
    expected = inertia(lifted.hessian(), gradient_norm=float(lifted.gradient().norm()))
    if not expected.decided:
        return []
    assert embedding.predict_inertia(exact).holds(expected)
    theta = lifted.flatten()
    direction = torch.randn(len(theta), generator=generator, dtype=F64)
    slope = float((lifted.hessian() @ direction).norm())
    pairs = []
    for size in (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6):
        there = lifted.unflatten(theta + size / slope * direction)
        pairs.append((expected, inertia(lifted.hessian(there), gradient_norm=float(lifted.gradient(there).norm()))))
    return pairs


@pytest.mark.parametrize("kind", ["minimum", "saddle"])
def test_near_lifted_points_it_may_be_undecided_and_is_never_wrong(kind: str) -> None:
    pairs = [pair for seed in range(12) for pair in near_lifted(seed, kind)]
    assert len(pairs) >= 28
    wrong = [(exact.triple, near) for exact, near in pairs if near.decided and near.triple != exact.triple]
    assert wrong == []
