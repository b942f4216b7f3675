"""A checkpoint is taken over by the operator that it was made with, to rounding, and by no other."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.curvature.spectra import F64, rotated
from torch import nn

import liftscape as ls
from liftscape.curvature import eigenpairs, gauss_newton, spectral_density, trace
from liftscape.operators import SymmetricOperator
from liftscape.outcomes import Outcome

MATRIX = rotated(torch.linspace(-2, 5, 60, dtype=F64))


def _swapped() -> torch.Tensor:
    order = torch.arange(60)
    order[[3, 11]] = order[[11, 3]]
    return MATRIX[order][:, order]


def _one_pair_changed() -> torch.Tensor:
    changed = MATRIX.clone()
    changed[2, 10] += 1e-9
    changed[10, 2] += 1e-9
    return changed


OTHERS = {
    "negative": -MATRIX,
    "shifted": MATRIX + 1e-9 * torch.eye(60, dtype=F64),
    "coordinates swapped": _swapped(),
    "one pair changed": _one_pair_changed(),
    "scaled": MATRIX * (1 + 1e-9),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("work", [trace, lambda H, **more: eigenpairs(H, 1, **more), spectral_density])
def test_the_finished_work_of_another_operator_is_refused(
    tmp_path: Path, work: Callable[..., Outcome], other: str
) -> None:
    first = work(MATRIX, checkpoint=tmp_path).to_json()
    with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
        work(OTHERS[other], checkpoint=tmp_path)
    assert work(MATRIX, checkpoint=tmp_path).to_json() == first


def _risk(batch: int, step: float = 0.0) -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator)
    y = x[:, :2].sin()
    model = ls.nets.mlp((6, 16, 14, 2), "tanh", dtype=torch.float32, generator=generator)
    risk = ls.EmpiricalRisk(model, "mse", [(x[i : i + batch], y[i : i + batch]) for i in range(0, 200, batch)])
    return risk.at(risk.unflatten(risk.flatten() - step * risk.gradient()))


def test_a_network_that_moved_by_less_than_a_thousandth_is_refused(tmp_path: Path) -> None:
    kept = eigenpairs(_risk(200).hessian(), 2, checkpoint=tmp_path)
    with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
        eigenpairs(_risk(200, 3e-5).hessian(), 2, checkpoint=tmp_path)
    moved = _risk(200, 3e-4).hessian()
    missed = (moved @ kept.vectors).double() - kept.vectors.double() * kept.values
    assert float(missed.norm(dim=0).max()) > 2 * float(kept.residuals.max())
    with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
        eigenpairs(moved, 2, checkpoint=tmp_path)


def test_the_same_network_on_data_in_other_batches_is_taken_over(tmp_path: Path) -> None:
    first, again = _risk(200).hessian(), _risk(8).hessian()
    v = torch.ones(first.size)
    assert not torch.equal(first @ v, again @ v)
    assert trace(again, checkpoint=tmp_path / "a") == trace(again)
    assert trace(first, checkpoint=tmp_path / "a") == trace(again)


def test_an_operator_that_is_not_finite_is_told_by_where_it_is_not(tmp_path: Path) -> None:
    broken = torch.diag(torch.linspace(1, 2, 9, dtype=F64))
    broken[4, 4] = torch.inf
    first = trace(broken, checkpoint=tmp_path).to_json()
    assert trace(broken, checkpoint=tmp_path).to_json() == first
    with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
        trace(torch.eye(9, dtype=F64), checkpoint=tmp_path)


_IN_ANOTHER_PROCESS = """
import sys
import torch
import liftscape as ls
generator = torch.Generator().manual_seed(0)
x = torch.randn(400, 3, 12, 12, generator=generator)
torch.manual_seed(0)
from torch.nn import Conv2d, Flatten, Linear, Tanh
layers = Conv2d(3, 8, 3), Tanh(), Conv2d(8, 8, 3), Flatten(), Linear(512, 4)
risk = ls.EmpiricalRisk(torch.nn.Sequential(*layers), "mse", (x, torch.randn(400, 4, generator=generator)))
print(torch.get_num_threads())
print(ls.curvature.trace(risk.hessian(), probes=4, checkpoint=sys.argv[1]).to_json(indent=None))
"""


def test_another_process_with_other_threads_takes_the_work_over(tmp_path: Path) -> None:
    def run(threads: int) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        given, result = done.stdout.splitlines()
        assert given == str(threads)
        return result

    assert run(1) == run(2)


def _batch_statistics(change: float = 0.0) -> ls.EmpiricalRisk:
    torch.manual_seed(0)
    layers = nn.Linear(10, 40), nn.BatchNorm1d(40), nn.Tanh(), nn.Linear(40, 30), nn.BatchNorm1d(30), nn.ReLU()
    model = nn.Sequential(*layers, nn.Linear(30, 1))
    x, y = torch.rand(60, 10) + 10, torch.randn(60, 1)
    with torch.no_grad():
        model[3].weight.mul_(1 + change)
    return ls.EmpiricalRisk(model, "mse", (x, y))


@pytest.mark.parametrize("product", [ls.EmpiricalRisk.hessian, gauss_newton])
def test_a_network_that_rounds_worse_than_most_is_taken_over_with_other_threads(
    tmp_path: Path, product: Callable[[ls.EmpiricalRisk], SymmetricOperator]
) -> None:
    threads, results, products = torch.get_num_threads(), [], []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            H = product(_batch_statistics())
            products.append(H @ torch.ones(H.size))
            results.append(trace(H, probes=4, checkpoint=tmp_path).to_json())
            # What tells how it rounds leaves it as it was.
            assert torch.equal(H @ torch.ones(H.size), products[-1])
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]


def test_a_network_that_rounds_worse_than_most_and_changed_is_refused(tmp_path: Path) -> None:
    trace(_batch_statistics().hessian(), probes=4, checkpoint=tmp_path)
    with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
        trace(_batch_statistics(1e-2).hessian(), probes=4, checkpoint=tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_over_its_own_work_alone(tmp_path: Path, dtype: torch.dtype) -> None:
    def hessian(factor: float) -> SymmetricOperator:
        draws = torch.Generator().manual_seed(0)
        model = ls.nets.mlp((6, 8, 2), "tanh", dtype=torch.float32, generator=draws).to(dtype)
        x, y = (torch.randn(20, size, generator=draws).to(dtype) for size in (6, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor)
        return ls.EmpiricalRisk(model, "mse", (x, y)).hessian()

    first = trace(hessian(1.0), probes=4, checkpoint=tmp_path).to_json()
    assert trace(hessian(1.0), probes=4, checkpoint=tmp_path).to_json() == first
    for factor in (1.1, 1.02):
        with pytest.raises(ls.LiftscapeError, match="differs in the operator itself"):
            trace(hessian(factor), probes=4, checkpoint=tmp_path)
