"""What stands between two maps is named wherever it stands, and simple misuse is told in a line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.checks import check_fold
from liftscape.folding import interval_bounds
from liftscape.outcomes import ActivationError, EmbeddingError, LiftscapeError, ModelError

X = torch.rand(12, 6, generator=torch.Generator().manual_seed(0))


def before(middle: nn.Module, training: bool = False) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), middle, nn.ReLU(), nn.Linear(8, 3)).train(training)


class Shifted(nn.Module):
    """A pre-activation that is moved by a call."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x) - 20))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (before(nn.LayerNorm(8)), r"'1' \(LayerNorm\) between '0' and '3' is not pointwise"),
        (before(nn.Softmax(dim=1)), r"'1' \(Softmax\) between '0' and '3' is not pointwise"),
        (before(nn.Dropout(0.5), training=True), r"'1' \(Dropout\) between '0' and '3' drops at random; call eval"),
        (Shifted(), r"'sub' \(a call\) between 'first' and 'last' cannot be absorbed into either map"),
        (
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval(),
            r"'2' \(BatchNorm1d\) between '0' and '3' cannot be absorbed into either map",
        ),
    ],
)
def test_what_stands_between_is_named(model: nn.Module, sentence: str) -> None:
    (row,) = ls.fold(model, X).report
    assert not row.folded
    assert re.search(sentence, row.reason), row.reason
    fixed = model.eval()
    assert torch.allclose(ls.fold(fixed, X).model(X), fixed(X), atol=1e-5)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def unfinished(entry: float) -> nn.Module:
    made = net()
    made[2].weight.data[0, 0] = entry
    return made


MISUSE: list[tuple[Callable[[], object], type[LiftscapeError], str]] = [
    (lambda: ls.fold_within(net(), budget=0.1), LiftscapeError, "fold_within needs a risk.*Sequential was given"),
    (lambda: ls.save(None, "nowhere", base=net()), ModelError, "NoneType was given"),
    (lambda: ls.load(3, "nowhere"), LiftscapeError, "must return a Module, not int"),
    (lambda: ls.carry_over(None, old=net(), new=net()), LiftscapeError, "optimizer of torch.optim.*NoneType"),
    (
        lambda: ls.carry_over(torch.optim.SGD(net().parameters()), old=net(), new=ls.fold(net(), X)),
        ModelError,
        r"\.model",
    ),
    (lambda: ls.lift(net(), X, []), EmbeddingError, "goes in front of a map"),
    (lambda: ls.lift(net(), X, "2", width=4.0), EmbeddingError, "whole number of neurons, but 4.0"),
    (lambda: ls.lift(net(), X, "2", pieces=[]), EmbeddingError, "none was given"),
    (lambda: ls.lift(unfinished(float("nan")), X, "2"), ModelError, r"^2\.weight is not finite"),
    (lambda: ls.lift(nn.Sequential(nn.LazyLinear(3)), X, "0"), ModelError, "0.weight of Sequential has no shape"),
    (lambda: ls.lift(net(), X, "2", activation=nn.RReLU().eval()), ActivationError, "call eval"),
    (lambda: check_fold(net(), X, nn.Linear(6, 2)), LiftscapeError, r"\(12, 2\) and \(12, 3\) cannot be compared"),
    (lambda: check_fold(net().double(), X, net()), ModelError, "Sequential raised on inputs"),
    (lambda: interval_bounds(net(), X[0].cfloat(), X[0].cfloat()), LiftscapeError, "complex numbers"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "kind", "sentence"), MISUSE)
def test_misuse_is_told(call: Callable[[], object], kind: type[LiftscapeError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert not Path("nowhere").exists()


def test_a_random_slope_is_no_obstacle_in_eval_mode() -> None:
    model = net().double().eval()
    deeper = ls.lift(model, X.double(), "2", activation=nn.RReLU().eval()).model
    assert float((deeper(X.double()) - model(X.double())).detach().abs().max()) < 1e-12
