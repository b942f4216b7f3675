"""The linear autoencoder with one hidden layer, whose critical points are all known in closed form."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import inertia

F64 = torch.float64
WIDTH, HIDDEN = 6, 4
EIGENVALUES = torch.tensor([3.0, 2.2, 1.5, 1.0, 0.6, 0.3], dtype=F64)
CLASSES = [subset for size in range(HIDDEN + 1) for subset in combinations(range(WIDTH), size)]


def landscape() -> tuple[nn.Sequential, Tensor, Tensor]:
    """The network, data with XᵀX/n = U diag(λ) Uᵀ, and U."""
    generator = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=F64))[0]
    frame = torch.linalg.qr(torch.randn(20, WIDTH, generator=generator, dtype=F64))[0]
    data = 20**0.5 * frame * EIGENVALUES.sqrt() @ U.T
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(HIDDEN, WIDTH, bias=False)).to(F64)
    return model, data, U


def reached(subset: tuple[int, ...], seed: int) -> None:
    model, data, U = landscape()
    generator = torch.Generator().manual_seed(seed)
    m = len(subset)
    mixing = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=F64))[0][:, :m]
    noise = lambda *shape: 1e-3 * torch.randn(*shape, generator=generator, dtype=F64)
    with torch.no_grad():
        model[0].weight.copy_(mixing @ U[:, subset].T + noise(HIDDEN, WIDTH))
        model[1].weight.copy_(U[:, subset] @ mixing.T + noise(WIDTH, HIDDEN))
    risk = ls.EmpiricalRisk(model, "mse", (data, data))
    search = ls.find_critical_point(risk, tolerance=1e-14)
    assert search.status == "converged"
    left = [i for i in range(WIDTH) if i not in subset]
    assert search.value == pytest.approx(float(EIGENVALUES[left].sum()) / WIDTH, abs=1e-12)
    swaps = sum(float(EIGENVALUES[i]) > float(EIGENVALUES[j]) for i in left for j in subset)
    negative, zero = (HIDDEN - m) * (WIDTH - m) + swaps, m * (2 * HIDDEN - m)
    found = inertia(risk.with_model(search.model).hessian(), gradient_norm=search.gradient_norm)
    assert found.decided
    assert found.triple == (negative, zero, 2 * WIDTH * HIDDEN - negative - zero)


def test_there_are_fifty_seven_classes() -> None:
    assert len(CLASSES) == 57


@pytest.mark.parametrize("number", [0, 1, 6, 7, 20, 41, 42, 56])
def test_some_classes_are_reached_with_exact_loss_and_inertia(number: int) -> None:
    reached(CLASSES[number], number)


@pytest.mark.long
@pytest.mark.parametrize("number", range(57))
def test_all_classes_are_reached_with_exact_loss_and_inertia(number: int) -> None:
    reached(CLASSES[number], number)
