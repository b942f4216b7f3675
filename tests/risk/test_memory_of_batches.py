"""What a budget is planned from: the largest batch and the widest samples, and bytes that grow as n²."""

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls
from liftscape.derivatives._hessian import gradient_graph
from liftscape.memory._growth_of_bytes import growth_through
from liftscape.memory._saved_tensors import saved_bytes

F64 = torch.float64


def network(width: int = 32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)).to(
        F64
    )


def samples(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 5, generator=generator, dtype=F64), torch.randn(n, 3, generator=generator, dtype=F64)


def saved(risk: ls.EmpiricalRisk, batch: Any) -> int:
    """What the graph of a batch or of a piece really saves."""
    point = risk.point()
    return saved_bytes(point, batch, partial(gradient_graph, point))[0]


@pytest.mark.parametrize("sizes", list(itertools.permutations([4, 30, 600])))
def test_the_largest_batch_counts_wherever_it_stands(sizes: tuple[int, ...]) -> None:
    budget = 300_000
    risk = ls.EmpiricalRisk(network(), "mse", [samples(n) for n in sizes])
    plan = risk.plan(risk.point(), budget)
    assert plan.chunk == _planned_alone(600, budget)
    assert not plan.keep
    pieces = [saved(risk, piece) for piece, _ in risk.point().chunks(plan.chunk)]
    assert 0.3 * budget < max(pieces) < budget
    torch.testing.assert_close(
        risk.hessian(memory_budget=budget) @ torch.ones(risk.size, dtype=F64),
        risk.hessian() @ torch.ones(risk.size, dtype=F64),
        rtol=1e-10,
        atol=1e-12,
    )


def _planned_alone(n: int, budget: int) -> int | None:
    risk = ls.EmpiricalRisk(network(), "mse", samples(n))
    return risk.plan(risk.point(), budget).chunk


def contrastive(output: Tensor, _: Tensor) -> Tensor:
    """Each sample against all others."""
    z = functional.normalize(output, dim=1)
    return functional.cross_entropy(z @ z.T / 0.1, torch.arange(len(z)).roll(1))


def log_pairs(output: Tensor, _: Tensor) -> Tensor:
    """Distances of all pairs, coordinate by coordinate."""
    return ((output[:, None] - output[None]) ** 2 + 1).log().mean()


@pytest.mark.parametrize("loss", [contrastive, log_pairs])
@pytest.mark.parametrize("n", [20, 100, 500])
def test_a_loss_of_pairs_is_estimated_as_it_grows(loss: Any, n: int) -> None:
    risk = ls.EmpiricalRisk(network(), loss, samples(n))
    plan = risk.plan(risk.point())
    (cost,) = risk._costs.values()
    graph = saved(risk, next(iter(risk.batches)))
    assert plan.keep
    assert graph <= cost.saved(n) <= 1.05 * graph
    with pytest.raises(ls.LiftscapeError, match="which cannot be split"):
        risk.hessian(memory_budget=graph)


class Sequences(nn.Module):
    """A score for each token, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).to(F64)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens).mean(dim=1)


@pytest.mark.parametrize("lengths", [(5, 50), (50, 5)])
def test_the_widest_samples_count_wherever_they_stand(lengths: tuple[int, int]) -> None:
    budget = 500_000
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randint(0, 9, (64, length), generator=generator), samples(64)[1]) for length in lengths]
    risk = ls.EmpiricalRisk(Sequences(), "mse", data)
    plan = risk.plan(risk.point(), budget)
    assert 0.3 * budget < max(saved(risk, piece) for piece, _ in risk.point().chunks(plan.chunk)) < budget


class Attention(nn.Module):
    """Compares all tokens of a sample in pairs, by matrices that a graph saves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.out = (nn.Linear(6, 6, dtype=F64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.softmax(self.query(x) @ self.key(x).mT, dim=-1) @ x).mean(dim=1)[:, :3]


@pytest.mark.parametrize("sizes", [(64, 60), (60, 64), (6, 5), (40, 1)])
@pytest.mark.parametrize("wide", [10, 96])
def test_what_grows_faster_than_the_width_is_measured(sizes: tuple[int, int], wide: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = zip(sizes, (8, wide), strict=True)
    data = [(torch.randn(n, length, 6, generator=generator, dtype=F64), samples(n)[1]) for n, length in shapes]
    risk = ls.EmpiricalRisk(Attention(), "mse", data)
    point = risk.point()
    risk.plan(point)
    (cost,) = risk._costs.values()
    for chunk in (1, 3, 64):
        most = max(saved(risk, piece) for piece, _ in point.chunks(chunk))
        held = min(chunk, max(sizes))
        assert most <= cost.saved(held) * 1.02
        if sizes[1] >= chunk:
            assert cost.saved(held) <= 1.3 * most


@pytest.mark.parametrize(("a", "b", "c"), [(0, 8, 0), (100, 24, 0), (0, 0, 8), (7, 5, 3)])
@pytest.mark.parametrize("sizes", [(2, 4, 8), (2, 4, 113)])
def test_growth_goes_through_what_was_measured(a: int, b: int, c: int, sizes: tuple[int, int, int]) -> None:
    growth = growth_through(sizes, [a + b * n + c * n**2 for n in sizes])
    assert (growth.fixed, growth.per_sample, growth.per_pair) == pytest.approx((a, b, c), abs=1e-9)
    assert growth(30, 3, 20) == pytest.approx(3 * a + 30 * b + 600 * c)


@pytest.mark.parametrize("measured", [[10, 30, 40], [10, 10, 90], [30, 10, 12], [0, 0, 0], [50, 20, 100]])
def test_growth_of_another_kind_is_bounded_from_above(measured: list[int]) -> None:
    growth = growth_through((2, 4, 8), measured)
    assert min(growth.fixed, growth.per_sample, growth.per_pair) >= 0
    assert growth(8) >= measured[-1] - 1e-9
