"""A monitor follows the extreme curvature of a network in training, and leaves the training as it is."""

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.training import Monitor, Reading

F64 = torch.float64


def risk() -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(ls.nets.mlp((4, 12, 8, 1), "tanh", generator=generator), "mse", (x, x[:, :1].sin()))


def test_a_network_that_stands_still_gives_its_extreme_eigenvalues() -> None:
    watched = risk()
    monitor = Monitor(watched, probe=60)
    for step in range(100):
        last = monitor.record(step)
    values = torch.linalg.eigvalsh(watched.hessian().to_dense())
    assert last.highest == pytest.approx(float(values[-1]), rel=1e-6)
    assert last.lowest == pytest.approx(float(values[0]), rel=1e-2)
    assert float((values - last.lowest).abs().min()) <= last.lowest_bound + 1e-12
    assert all(reading.highest <= float(values[-1]) + 1e-12 for reading in monitor.readings)
    assert all(reading.lowest >= float(values[0]) - 1e-12 for reading in monitor.readings)


def test_four_products_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor(risk())
    columns = []
    multiply = ls.curvature.Hessian.multiply

    def counted(self, block):
        columns.append(block.shape[1])
        return multiply(self, block)

    monkeypatch.setattr(ls.curvature.Hessian, "multiply", counted)
    monitor.record(0)
    assert sum(columns) == 4


def trained(watch: bool) -> tuple[nn.Module, list[Reading]]:
    """Train with and without a monitor."""
    watched = risk()
    x, y = next(iter(watched.batches))
    monitor = Monitor(watched, probe=30)
    rule = torch.optim.SGD(watched.model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(3)
    for step in range(60):
        index = torch.randperm(60)[:20]
        if watch and step % 20 == 0:
            monitor.record(step)
        rule.zero_grad()
        nn.functional.mse_loss(watched.model(x[index]), y[index]).backward()
        rule.step()
    return watched.model, monitor.readings


def test_training_takes_the_same_course_with_and_without() -> None:
    (alone, nothing), (watched, readings) = trained(watch=False), trained(watch=True)
    assert nothing == []
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), watched.parameters(), strict=True))
    assert [reading.step for reading in readings] == [0, 20, 40]
    assert readings[0].value > readings[-1].value
    assert [row.name for row in readings[0].layers] == ["1", "3"]


def test_a_network_that_overflows_has_no_curvature() -> None:
    watched = risk()
    monitor = Monitor(watched)
    with torch.no_grad():
        watched.model[0].weight.fill_(float("nan"))
    reading = monitor.record(0)
    assert reading.highest != reading.highest
    assert reading.value != reading.value


def test_a_probe_of_one_sample_is_refused() -> None:
    with pytest.raises(ls.LiftscapeError, match="at least 2 samples, but probe is 1"):
        Monitor(risk(), probe=1)


def test_the_probe_follows_a_model_to_another_dtype_and_back() -> None:
    watched = risk()
    monitor = Monitor(watched)
    first = monitor.record(0)
    watched.model.float()
    rounded = monitor.record(1)
    assert rounded.value == pytest.approx(first.value, rel=1e-5)
    watched.model.double()
    x, y = next(iter(watched.batches))
    expected = nn.functional.mse_loss(watched.model(x[:32]), y[:32])
    assert monitor.record(2).value == pytest.approx(float(expected.detach()), rel=1e-14)


@pytest.fixture(scope="module")
def digits() -> ls.EmpiricalRisk:
    """A digits network after some training, whose negative curvature is small beside its positive one."""
    x, y = ls.data.digits(F64)
    model = ls.nets.mlp((64, 16, 16, 10), "tanh", dtype=F64, generator=torch.Generator().manual_seed(0))
    rule = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        rule.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        rule.step()
    return ls.EmpiricalRisk(model, "cross_entropy", (x, y))


def ends_of(watched: ls.EmpiricalRisk, probe: int) -> tuple[float, float]:
    """Return the extreme eigenvalues on the first samples, from the dense matrix."""
    x, y = next(iter(watched.batches))
    values = torch.linalg.eigvalsh(
        ls.EmpiricalRisk(watched.model, watched.loss, (x[:probe], y[:probe])).hessian().to_dense()
    )
    return float(values[0]), float(values[-1])


def test_what_is_said_of_an_end_holds_from_the_first_record_on(digits: ls.EmpiricalRisk) -> None:
    smallest, largest = ends_of(digits, 32)
    monitor = Monitor(digits)
    for step in range(20):
        reading = monitor.record(step)
        assert (reading.lowest_status, reading.highest_status) == ("upper bound", "lower bound")
        assert reading.lowest - reading.lowest_bound <= smallest <= reading.lowest + 1e-12
        assert reading.highest - 1e-12 <= largest <= reading.highest + reading.highest_bound


def test_a_search_verifies_the_ends(digits: ls.EmpiricalRisk) -> None:
    smallest, largest = ends_of(digits, 32)
    monitor = Monitor(digits, search_every=3)
    readings = [monitor.record(step) for step in range(6)]
    assert [each.lowest_status for each in readings] == ["converged", "upper bound", "upper bound"] * 2
    for each in readings[::3]:
        assert each.highest_status == "converged"
        assert abs(each.lowest - smallest) <= each.lowest_bound < 0.2 * abs(smallest)
        assert abs(each.highest - largest) <= each.highest_bound < 0.2 * largest
    # What a search has found is followed.
    assert readings[1].lowest == pytest.approx(smallest, rel=1e-3)
    with pytest.raises(ls.LiftscapeError, match="search_every must be at least 1"):
        Monitor(digits, search_every=0)
