"""Batches are worked off in pieces only where the risk of the pieces is the risk."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls
from liftscape.derivatives._point import hold
from liftscape.derivatives._split import may_split
from liftscape.memory import _memory
from liftscape.samples import as_batches

F64 = torch.float64
IGNORED = -100
Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=IGNORED)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(F64)


def full(n: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, 4, generator=generator, dtype=F64)
    return x, torch.randint(0, 3, (n, 6), generator=generator)


def padded(which: slice | Tensor, n: int = 64) -> Batch:
    x, targets = full(n)
    targets[which, 1:] = IGNORED
    return x + 1, targets


ONE = torch.tensor([63])
RANDOM = torch.randperm(64, generator=torch.Generator().manual_seed(2))[:32]
DATA: dict[str, list[Batch]] = {
    "first batch full": [full(), padded(RANDOM)],
    "first batch full, one sample padded in the last": [full(), full(), padded(ONE)],
    "padding repeats by halves": [padded(slice(0, None, 32))],
    "padding repeats in pairs": [padded(slice(0, None, 2))],
    "one half padded": [padded(slice(0, 32))],
    "small batch first": [full(4), padded(RANDOM)],
}


def joined(batches: list[Batch]) -> Batch:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.mark.parametrize("budget", [3000, 5000, 9000, 20000, 50000, 100000])
@pytest.mark.parametrize("data", DATA)
def test_a_budget_gives_the_same_hessian_or_none(data: str, budget: int) -> None:
    risk = ls.EmpiricalRisk(model(), token_loss, DATA[data])
    whole = ls.EmpiricalRisk(model(), token_loss, joined(DATA[data]))
    expected = whole.hessian().to_dense()
    torch.testing.assert_close(risk.hessian().to_dense(), expected, rtol=1e-10, atol=1e-12)
    # Of all columns at once: a matrix that is another one gives another product with them.
    block = torch.randn(risk.size, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    try:
        H = risk.hessian(memory_budget=budget)
    except ls.LiftscapeError:
        return
    torch.testing.assert_close(H @ block, expected @ block, rtol=1e-10, atol=1e-11)
    G = ls.curvature.gauss_newton(risk, memory_budget=budget)
    torch.testing.assert_close(G @ block, ls.curvature.gauss_newton(whole) @ block, rtol=1e-10, atol=1e-11)


def test_padding_in_a_batch_is_named() -> None:
    risk = ls.EmpiricalRisk(model(), token_loss, padded(RANDOM))
    with pytest.raises(ls.LiftscapeError, match=r"of 64 samples, which cannot be split.*ignore_index"):
        risk.hessian(memory_budget=9000)


def test_padding_in_a_later_batch_is_noticed() -> None:
    batches = as_batches(DATA["first batch full"])
    net = model()
    assert not may_split(hold(net, token_loss, batches, dict(net.named_parameters()), None), 20)


def test_without_a_budget_such_batches_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    risk = ls.EmpiricalRisk(model(), token_loss, padded(RANDOM))
    expected = risk.hessian().to_dense()
    monkeypatch.setattr(_memory, "_DEFAULT_BUDGET", 9000)
    assert risk.plan(risk.point()).chunk is None
    torch.testing.assert_close(risk.hessian().to_dense(), expected, rtol=1e-12, atol=1e-14)


def test_equal_shares_of_padding_may_be_split() -> None:
    risk = ls.EmpiricalRisk(model(), token_loss, [full(), padded(slice(0, None))])
    assert risk.plan(risk.point(), 9000).chunk is not None
    torch.testing.assert_close(
        risk.hessian(memory_budget=9000).to_dense(), risk.hessian().to_dense(), rtol=1e-10, atol=1e-12
    )


def total(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).sum()


def spread(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).mean() + output.var()


@pytest.mark.parametrize("loss", [total, spread])
def test_losses_that_are_no_means_are_not_split(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, _ = full()
    risk = ls.EmpiricalRisk(model(), loss, (x, x[..., :3]))
    with pytest.raises(ls.LiftscapeError, match="which cannot be split"):
        risk.hessian(memory_budget=9000)
    with pytest.raises(ls.LiftscapeError, match="is not the mean of their losses in 2 batches"):
        ls.EmpiricalRisk(model(), loss, [(x, x[..., :3]), (x[:9], x[:9, :, :3])])


def test_a_mean_of_either_sign_that_nearly_vanishes_is_split() -> None:
    """Rounding is that of the pieces, which cancel."""
    x, _ = full(40)
    y = torch.cat([x[:20, :, :3], -x[:20, :, :3]])
    inputs = torch.cat([x[:20], x[:20]])
    risk = ls.EmpiricalRisk(model(), lambda output, target: (output * target).mean(), (inputs, y))
    assert abs(float(risk.value())) < 1e-15
    assert risk.plan(risk.point(), 9000).chunk is not None


class Pooled(nn.Module):
    """Takes the mean of the batch from each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.net = model()

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z - z.mean(dim=0)


def test_a_model_that_mixes_samples_is_not_split() -> None:
    x, _ = full()
    risk = ls.EmpiricalRisk(Pooled(), "mse", (x, x[..., :3]))
    with pytest.raises(ls.LiftscapeError, match="which cannot be split"):
        risk.hessian(memory_budget=9000)


def weighted(output: Tensor, target: Tensor) -> Tensor:
    """Weighs classes by numbers of half precision, which torch refuses for outputs of another."""
    weight = torch.ones(3, dtype=torch.bfloat16)
    return functional.cross_entropy(output.flatten(0, 1), target.flatten(), weight=weight)


HALVES = [(torch.bfloat16, token_loss), (torch.float16, token_loss), (torch.bfloat16, weighted)]


@pytest.mark.parametrize(("dtype", "loss"), HALVES)
@pytest.mark.parametrize("size", [3, 16, 24])
def test_padding_is_noticed_in_half_precision(dtype: torch.dtype, loss: Loss, size: int) -> None:
    x, targets = padded(RANDOM)
    risk = ls.EmpiricalRisk(model().to(dtype), loss, (x.to(dtype), targets))
    assert not may_split(risk.point(), size)


@pytest.mark.parametrize(("dtype", "loss"), HALVES[:2])
@pytest.mark.parametrize("size", [1, 3, 16, 32])
def test_rounding_in_half_precision_is_no_padding(dtype: torch.dtype, loss: Loss, size: int) -> None:
    x, targets = full()
    risk = ls.EmpiricalRisk(model().to(dtype), loss, (x.to(dtype), targets))
    assert may_split(risk.point(), size)


class Scaled(nn.Module):
    """A network beside a positive scale whose logarithm is taken."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.net = model()
        self.sigma = nn.Parameter(torch.full((2,), sigma, dtype=F64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), self.sigma


def likelihood(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    mean, sigma = output
    return ((mean - target) ** 2).mean() / sigma[0] ** 2 + sigma.log().mean()


@pytest.mark.parametrize("sigma", [1e-3, 1e-6])
def test_a_small_scale_stays_positive_where_losses_are_compared(sigma: float) -> None:
    x, _ = full()
    risk = ls.EmpiricalRisk(Scaled(sigma), likelihood, (x, x[..., :3]))
    H = risk.hessian(memory_budget=9000)
    assert risk.plan(risk.point(), 9000).chunk is not None
    torch.testing.assert_close(H.to_dense(), risk.hessian().to_dense(), rtol=1e-9, atol=1e-9 / sigma)


class Edge(nn.Module):
    """Has a parameter at the upper end of where it is defined."""

    def __init__(self) -> None:
        super().__init__()
        self.net = model()
        self.edge = nn.Parameter(torch.ones(8, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + torch.asin(self.edge).sum()


@pytest.mark.parametrize("loss", [functional.mse_loss, spread])
def test_losses_that_are_finite_at_the_point_alone_are_compared_there(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, _ = full()
    risk = ls.EmpiricalRisk(Edge(), loss, (x, x[..., :3]))
    assert may_split(risk.point(), 7) == (loss is functional.mse_loss)
