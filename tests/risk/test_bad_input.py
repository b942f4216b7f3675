"""Every bad input of the risk gets one sentence with names and shapes; the sentences are pinned here."""

from collections.abc import Iterator

import pytest
import torch
from scipy.sparse import eye_array
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def inputs(n: int = 10) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def targets(n: int = 10) -> Tensor:
    return torch.zeros(n, 2, dtype=F64)


def with_nan(value: float) -> Tensor:
    x = inputs()
    x[7, 1] = value
    return x


def one_shot() -> Iterator[tuple[Tensor, Tensor]]:
    yield inputs(), targets()


def net(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 2)).to(F64)


def integers() -> nn.Module:
    model = net()
    model[0].weight = nn.Parameter(torch.ones(4, 3, dtype=torch.int64), requires_grad=False)
    return model


PENALISED = net()


def penalised(output: Tensor, target: Tensor) -> Tensor:
    decay = sum((parameter**2).sum() for parameter in PENALISED.parameters())
    return ((output - target) ** 2).mean() + 1e-3 * decay


@pytest.mark.parametrize(
    ("model", "loss", "data", "sentence"),
    [
        (net(), "mse", (with_nan(float("nan")), targets()), r"7, 1"),
        (net(), "mse", (inputs(), torch.full((10, 2), float("inf"), dtype=F64)), r"targets.*0, 0"),
        (net(), "mse", (inputs(), targets(9)), r"10.*9"),
        (nn.Linear(3, 1).to(F64), "mse", (inputs(), targets()[:, 0]), r"\(10, 1\).*\(10,\)|\(10,\).*\(10, 1\)"),
        (net(), "cross_entropy", (inputs(), torch.full((10,), 5)), r"5"),
        (net(), "cross_entropy", (inputs(), torch.full((10,), -1)), r"-1"),
        (integers(), "mse", (inputs(), targets()), r"parameter 0.weight of Sequential has dtype torch.int64"),
        (net(nn.Dropout(0.5)), "mse", (inputs(), targets()), r"two evaluations differ at module '1'"),
        (
            net(nn.BatchNorm1d(4)),
            "mse",
            [(inputs(), targets()), (inputs(), targets())],
            r"1 is BatchNorm in training mode and the data come in 2 batches",
        ),
        (PENALISED, penalised, (inputs(), targets()), r"weight decay|penal|depends on"),
        (net(), "mse", one_shot(), r"one-shot generator"),
        (net(), "mse", (inputs(0), targets(0)), r"no samples|empty|0 samples"),
        (net(), "mse", [], r"no batch|empty|no samples"),
        (net(), "mse", (inputs().float(), targets()), r"dtype torch.float32"),
        (net().requires_grad_(False), "mse", (inputs(), targets()), r"no trainable parameter"),
    ],
)
def test_one_sentence_names_what_is_wrong(model: nn.Module, loss: object, data: object, sentence: str) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ls.LiftscapeError, match=sentence) as raised:
        ls.EmpiricalRisk(model, loss, data)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Counting(nn.Module):
    """Adds up how many samples it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.seen = nn.Linear(3, 1, dtype=F64), [0]

    def forward(self, x: Tensor) -> Tensor:
        self.seen[0] += len(x)
        return self.map(x) + self.seen[0]


def test_what_is_not_torchs_randomness_is_found() -> None:
    x = torch.ones(100, 3, dtype=F64)
    with pytest.raises(ls.LiftscapeError, match="two evaluations differ at the model itself"):
        ls.EmpiricalRisk(Counting(), "mse", (x, x[:, :1]))


def test_rare_randomness_is_found_on_all_samples() -> None:
    """Two samples would mostly agree: of 2,000 a hundredth are put to zero."""
    x = torch.ones(2000, 1, dtype=torch.float64)
    model = nn.Sequential(nn.Dropout(0.01), nn.Linear(1, 1)).double()
    with pytest.raises(ls.LiftscapeError, match="two evaluations differ at module '0'"):
        ls.EmpiricalRisk(model, "mse", (x, x))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [eye_array(3), [[1.0]], "H", ls.EmpiricalRisk(net(), "mse", (inputs(), targets()))])
def test_what_is_no_operator_is_named(given: object) -> None:
    with pytest.raises(ls.LiftscapeError, match=rf"a symmetric operator is .* but {type(given).__name__} was given"):
        ls.curvature.eigenpairs(given, 1)  # type: ignore[arg-type]
