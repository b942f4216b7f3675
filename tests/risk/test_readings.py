"""Data that differ from one reading to the next, which would weigh the batches wrongly."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import liftscape as ls
from liftscape.outcomes import DataError
from liftscape.samples._batches import as_batches

F64 = torch.float64
X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


class Readings:
    """Gives other batches at each reading; the last ones from then on."""

    def __init__(self, *readings: list[tuple[Tensor, Tensor]]) -> None:
        self.readings = list(readings)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.readings.pop(0) if len(self.readings) > 1 else self.readings[0])


class UsedUp:
    """Hands out one iterator, so that a second reading finds it at its end."""

    def __init__(self) -> None:
        self.batches = iter([(X, Y), (X, Y)])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 3, dtype=F64)


@pytest.mark.parametrize(
    ("later", "sentence"),
    [
        ([(X, Y)], r"12 samples where it gave 24 when first read.*the same samples each time"),
        ([(X, Y)] * 3, r"36 samples where it gave 24 when first read"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda risk: risk.value(),
        lambda risk: risk.gradient(),
        lambda risk: risk.hessian() @ torch.ones(18, dtype=F64),
        lambda risk: list(risk.outputs()),
    ],
    ids=["value", "gradient", "hessian", "outputs"],
)
def test_other_samples_at_a_later_reading_are_refused(
    use: Callable[[Any], object], later: list[Any], sentence: str
) -> None:
    risk = ls.EmpiricalRisk(linear(), "mse", Readings([(X, Y), (X, Y + 1)], later))
    with pytest.raises(DataError, match=sentence) as raised:
        use(risk)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", [UsedUp(), Readings([(X, Y)], [])], ids=["iterator", "list"])
def test_data_that_can_be_read_only_once_are_refused_at_once(source: object) -> None:
    with pytest.raises(DataError, match=r"read only once.*pass \(inputs, targets\), a list of batches or a Data"):
        ls.EmpiricalRisk(linear(), "mse", source)


def test_the_same_samples_in_other_batches_are_one_risk() -> None:
    whole = ls.EmpiricalRisk(linear(), "mse", (X, Y))
    first, then = [(X[:4], Y[:4]), (X[4:], Y[4:])], [(X[:7], Y[:7]), (X[7:], Y[7:])]
    risk = ls.EmpiricalRisk(linear(), "mse", Readings(first, first, first, then))
    torch.testing.assert_close(risk.value(), whole.value(), rtol=1e-13, atol=0)
    torch.testing.assert_close(risk.gradient(), whole.gradient(), rtol=1e-12, atol=1e-15)


def test_targets_with_a_graph_are_numbers() -> None:
    x = torch.randn(8, 2, dtype=torch.float64)
    teacher, model = (nn.Linear(2, 1, dtype=torch.float64) for _ in range(2))
    risk, plain = (ls.EmpiricalRisk(model, "mse", (x, y)) for y in (teacher(x), teacher(x).detach()))
    assert torch.equal(risk.gradient(), plain.gradient())
    assert torch.equal(risk.hessian().to_dense(), plain.hessian().to_dense())


def test_a_complex_loss_is_refused() -> None:
    x = torch.randn(8, 2, dtype=torch.float64)
    with pytest.raises(ls.LiftscapeError, match=r"the loss must be a real number, but it is torch\.complex128"):
        ls.EmpiricalRisk(nn.Linear(2, 1, dtype=torch.float64), lambda out, _: out.mean() * 1j, (x, x))


def loader(targets: Tensor, **options: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(X, targets), 5, shuffle=True, generator=generator, **options)


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.complex128])
def test_a_shuffled_loader_that_drops_samples_is_refused(dtype: torch.dtype) -> None:
    batches = as_batches(loader(Y.to(dtype), drop_last=True))
    with pytest.raises(DataError, match=r"gave other targets than when first read.*drop_last=False"):
        list(batches)


@pytest.mark.parametrize("targets", [Y, Y * 1e12, Y.float(), torch.arange(12), torch.zeros(12, 3), Y > 0])
def test_the_same_samples_in_another_order_are_the_same_data(targets: Tensor) -> None:
    batches = as_batches(loader(targets))
    readings = [torch.cat([batch[0] for batch in batches]) for _ in range(3)]
    assert not torch.equal(readings[0], readings[1])


def test_padding_by_batch_is_no_other_data() -> None:
    one = [(X[:6], torch.full((6, 2), -100)), (X[6:], torch.full((6, 4), -100))]
    other = [(X[:6], torch.full((6, 3), -100)), (X[6:], torch.full((6, 5), -100))]
    assert len(list(as_batches(Readings(one, other)))) == 2
