"""How often each verb runs the network, opens the data, and reads them to their end."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.inspection import layer_uses

COUNTS: Counter[str] = Counter()


class Counted(nn.Sequential):
    """A network that counts its forward passes, and those of its copies."""

    def forward(self, input: Tensor) -> Tensor:
        COUNTS["forwards"] += 1
        return super().forward(input)


class Source:
    """Two batches that count how often they are opened and how often they are read to the end."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.batches = [(x[:7], y[:7]), (x[7:], y[7:])]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        COUNTS["openings"] += 1
        yield from self.batches
        COUNTS["readings"] += 1


def network(activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    """Return an MLP with three maps."""
    torch.manual_seed(0)
    maps = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 1)
    return Counted(maps[0], activation(), maps[1], activation(), maps[2]).double()


def data() -> Source:
    """Return samples of a linear function."""
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Source(x, x.sum(dim=1, keepdim=True))


def risk(model: nn.Module | None = None) -> ls.EmpiricalRisk:
    """Return the mean squared error of the network on the samples."""
    return ls.EmpiricalRisk(network() if model is None else model, "mse", data())


def stuck() -> ls.EmpiricalRisk:
    """Return the risk of the best line through |x|, where the gradient vanishes."""
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
    line = nn.Linear(1, 1, dtype=torch.float64)
    nn.init.zeros_(line.weight)
    nn.init.constant_(line.bias, float(x.abs().mean()))
    return ls.EmpiricalRisk(Counted(line), "mse", Source(x, x.abs()))


# What is prepared, and what is done with it: forward passes, openings and complete readings of the data at most.
# The numbers before there was one owner of the forward pass stand behind each.
Verb = tuple[Callable[[], object], Callable[..., object], tuple[int, int, int]]
VERBS: dict[str, Verb] = {
    "EmpiricalRisk": (network, risk, (2, 2, 1)),  # 2, 3, 1
    "value": (risk, lambda r: r.value(), (2, 1, 1)),
    "gradient": (risk, lambda r: r.gradient(), (2, 1, 1)),
    "find_sites": (data, lambda d: ls.find_sites(network(), d), (2, 1, 0)),  # 2, 2, 0
    "lift": (
        data,
        lambda d: ls.lift(network(), at="2", inputs=d),
        (16, 2, 1),
    ),  # 17, 6, 1: six of them where rounding is measured again
    "split": (data, lambda d: ls.split(network(), d, "0", neuron=0, share=0.3), (6, 2, 0)),  # 5, 2, 0
    "layer_linearity of a model": (data, lambda d: ls.layer_linearity(network(), d), (4, 2, 1)),
    "layer_linearity of a risk": (risk, ls.layer_linearity, (10, 3, 2)),  # 18, 12, 5
    "layer_uses": (risk, layer_uses, (10, 3, 2)),  # 29, 19, 6
    "inspect": (risk, ls.inspect, (252, 20, 15)),  # 277, 145, 128
    "fold": (risk, ls.fold, (4, 2, 1)),
    "fold of what is linear": (
        lambda: risk(network(nn.LeakyReLU).requires_grad_(True)),
        lambda r: ls.fold(r, at=["1"], method="least-squares"),
        (12, 4, 3),  # 18, 11, 5
    ),
    "fold_within": (risk, lambda r: ls.fold_within(r, budget=1e9), (36, 8, 7)),  # 78, 57, 17
    "escape": (stuck, ls.escape, (38, 17, 13)),  # 40, 22, 16
    "certify": (risk, ls.certify, (267, 28, 27)),  # 271, 136, 135
}


def counts(name: str) -> tuple[int, int, int]:
    """Return what a verb takes."""
    prepare, verb, _ = VERBS[name]
    given = prepare()
    COUNTS.clear()
    verb(given)
    return COUNTS["forwards"], COUNTS["openings"], COUNTS["readings"]


@pytest.mark.parametrize("name", VERBS)
def test_the_data_are_read_no_more_often_than_the_table_says(name: str) -> None:
    found, allowed = counts(name), VERBS[name][2]
    assert all(number <= most for number, most in zip(found, allowed, strict=True)), (found, allowed)
