"""The risk over several batches is that of the joined batch, or refused; the oracle is the loss on the joined batch."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import liftscape as ls
from liftscape.outcomes import ModelError

LONG = pytest.mark.long
C = 3
G = torch.Generator().manual_seed(0)
X = torch.randn(30, 4, generator=G, dtype=torch.float64)
Y = torch.randint(0, C, (30,), generator=G)
WEIGHT = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
SPLITS = {
    "equal": [10, 10, 10],
    "uneven": [7, 22, 1],
    "ones": [1] * 30,
    "two": [15, 15],
    "halves differ": [1, 29],
}
Loss = Callable[[Any, Tensor], Tensor]


def net(sequence: bool = False, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, C)).double()
    if sequence:
        model.append(Transposed())
    with torch.no_grad():
        model[2].weight.mul_(scale)
    return model


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, -1)


def split(sizes: list[int], x: Tensor = X, y: Tensor = Y) -> list[tuple[Tensor, Tensor]]:
    ends = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    return [(x[a:b], y[a:b]) for a, b in pairwise(ends)]


def check_right(loss: Loss, model: nn.Module, batches: list[tuple[Any, Tensor]], joined: tuple[Any, Tensor]) -> None:
    """Value, gradient and product of the risk are those of the loss on the joined batch, in plain torch."""
    risk = ls.EmpiricalRisk(model, loss, batches)
    value = loss(model(joined[0]), joined[1])
    parameters = list(model.parameters())
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters, create_graph=True)])
    torch.testing.assert_close(risk.value(), value.detach(), rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(risk.gradient(), gradient.detach(), rtol=1e-9, atol=1e-12)
    v = torch.randn(risk.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    product = torch.cat([part.flatten() for part in torch.autograd.grad(gradient @ v, parameters)])
    torch.testing.assert_close(risk.hessian() @ v, product, rtol=1e-9, atol=1e-12)


CLASS_WEIGHTS: dict[str, Loss] = {
    "module": nn.CrossEntropyLoss(weight=WEIGHT),
    "lambda": lambda z, y: F.cross_entropy(z, y, weight=WEIGHT),
    "partial": partial(F.cross_entropy, weight=WEIGHT),
    "by place": lambda z, y: F.cross_entropy(z, y, WEIGHT),
    "smoothed": nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1),
    "likelihood": lambda z, y: F.nll_loss(z.log_softmax(1), y, WEIGHT),
    "likelihood module": lambda z, y: nn.NLLLoss(WEIGHT)(z.log_softmax(1), y),
    "ignored class": nn.CrossEntropyLoss(ignore_index=1),
    "ignored and weighted": nn.CrossEntropyLoss(WEIGHT, ignore_index=2),
    "smoothed and ignored": nn.CrossEntropyLoss(ignore_index=2, label_smoothing=0.2),
    "with a penalty": lambda z, y: F.cross_entropy(z, y, WEIGHT) + 0.1 * z.square().mean(),
}


@pytest.mark.parametrize("sizes", ["uneven", *(pytest.param(sizes, marks=LONG) for sizes in ("equal", "two"))])
@pytest.mark.parametrize("loss", CLASS_WEIGHTS)
def test_class_weights_and_ignored_targets_are_right_on_any_split(loss: str, sizes: str) -> None:
    check_right(CLASS_WEIGHTS[loss], net(), split(SPLITS[sizes]), (X, Y))


@pytest.mark.parametrize("sizes", ["equal", "ones"])
def test_class_weights_where_each_batch_has_one_class_and_at_zero(sizes: str) -> None:
    order = Y.argsort()
    model = net()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    check_right(CLASS_WEIGHTS["lambda"], model, split(SPLITS[sizes], X[order], Y[order]), (X[order], Y[order]))


@pytest.mark.parametrize("sizes", ["equal", "uneven"])
@pytest.mark.parametrize("flat", [False, True])
def test_padded_tokens_are_right_on_any_split(sizes: str, flat: bool) -> None:
    x = torch.randn(30, 6, 4, generator=G, dtype=torch.float64)
    y = torch.randint(0, C, (30, 6), generator=G)
    lengths = torch.randint(1, 7, (30,), generator=G)
    y[torch.arange(6) >= lengths[:, None]] = -100
    flattened: Loss = lambda z, t: F.cross_entropy(z.flatten(0, 1), t.flatten())
    loss = flattened if flat else nn.CrossEntropyLoss()
    model = net(sequence=not flat)
    check_right(loss, model, split(SPLITS[sizes], x, y), (x, y))
    # Padded to the longest of each batch, as collators do.
    cut = [
        (a[:, : int((b != -100).sum(1).max())], b[:, : int((b != -100).sum(1).max())])
        for a, b in split(SPLITS[sizes], x, y)
    ]
    check_right(loss, model, cut, (x, y))


class WithLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.scale = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> dict[str, Any]:
        z = self.net(x)
        return {"logits": z, "states": (z.tanh(), None), "scale": self.scale}


def test_outputs_of_several_tensors() -> None:
    loss: Loss = lambda z, y: F.cross_entropy(z["logits"], y, WEIGHT) + z["scale"].square().sum()
    for sizes in SPLITS.values():
        check_right(loss, WithLogits(), split(sizes), (X, Y))


def test_other_data_get_a_normaliser_of_their_own() -> None:
    risk = ls.EmpiricalRisk(net(), CLASS_WEIGHTS["lambda"], split(SPLITS["equal"]))
    held_out = split([5, 5], X[:10] + 1, Y[:10])
    other = ls.EmpiricalRisk(risk.model, risk.loss, held_out)
    expected = CLASS_WEIGHTS["lambda"](risk.model(X[:10] + 1), Y[:10]).detach()
    torch.testing.assert_close(other.value(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(risk.with_model(risk.model).value(), risk.value(), rtol=0, atol=0)


def masked(z: Tensor, y: Tensor) -> Tensor:
    return ((z[:, 0] - y) ** 2)[y > 0].sum() / (y > 0).sum().clamp(min=1)


def contrastive(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z @ z.T, torch.arange(len(y)))


def ranking(z: Tensor, y: Tensor) -> Tensor:
    return F.relu(1 - (z[:, None, 0] - z[None, :, 0]) * (y[:, None] - y[None])).mean()


def standardised(z: Tensor, y: Tensor) -> Tensor:
    return (((z - z.mean(0)) / (z.std(0, correction=0) + 1))[:, 0] * y).mean()


NO_MEANS: dict[str, Loss] = {
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "sum of squares": lambda z, y: (z.sum(1) - y).square().sum(),
    "mse sum": lambda z, y: nn.MSELoss(reduction="sum")(z[:, 0], y.double()),
    "batchmean of a constant": lambda z, y: (z.sum(1) - y).square().sum() / 10,
    "masked": masked,
    "contrastive": contrastive,
    "ranking": ranking,
    "standardised": standardised,
    "variance": lambda z, y: F.cross_entropy(z, y) + z.var(0).sum(),
    "root": lambda z, y: (z.sum(1) - y).square().mean().sqrt(),
    "log of a mean": lambda z, y: (z.sum(1) - y).square().mean().log(),
    "weights by hand": lambda z, y: (F.cross_entropy(z, y, reduction="none") * WEIGHT[y]).sum() / WEIGHT[y].sum(),
    "weighted and squared": lambda z, y: F.cross_entropy(z, y, WEIGHT) ** 2,
    "weighted beside a sum": lambda z, y: F.cross_entropy(z, y, WEIGHT) + z.square().sum(),
    "focal of the mean": lambda z, y: (1 - (-F.cross_entropy(z, y)).exp()) * F.cross_entropy(z, y),
    "largest": lambda z, y: F.cross_entropy(z, y, reduction="none").max(),
    "median": lambda z, y: (z.sum(1) - y).abs().median(),
}


@pytest.mark.parametrize("sizes", ["equal", "uneven"])
@pytest.mark.parametrize("loss", NO_MEANS)
def test_losses_that_are_no_mean_over_samples_are_refused_over_batches_alone(loss: str, sizes: str) -> None:
    given = NO_MEANS[loss]
    if loss in {"contrastive", "variance", "standardised"} and sizes == "uneven":
        sizes = "two"
    with pytest.raises(ModelError, match=r"is not the mean of their losses in \d+ batches.*give all samples") as raised:
        ls.EmpiricalRisk(net(), given, split(SPLITS[sizes]))
    assert "\n" not in str(raised.value)
    whole = ls.EmpiricalRisk(net(), given, (X, Y))
    torch.testing.assert_close(whole.value(), given(net()(X), Y).detach(), rtol=1e-12, atol=0)


MEANS: dict[str, Loss] = {
    "cross entropy": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "equal weights": nn.CrossEntropyLoss(torch.full((C,), 7.0, dtype=torch.float64)),
    "probabilities": lambda z, y: F.cross_entropy(z, F.one_hot(y, C).double() * 0.8 + 0.2 / C),
    "weighted probabilities": lambda z, y: F.cross_entropy(z, F.one_hot(y, C).double(), WEIGHT),
    "sum over n": lambda z, y: F.cross_entropy(z, y, reduction="sum") / len(y),
    "focal": lambda z, y: (
        (1 - z.softmax(1)[torch.arange(len(y)), y]) ** 2 * F.cross_entropy(z, y, reduction="none")
    ).mean(),
    "either sign": lambda z, y: (z[:, 0] * (y - 1)).mean(),
    "cancels": lambda z, y: (1e6 + z[:, 0] - y).mean() - 1e6,
    "binary": lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], (y > 0).double()),
    "probability": lambda z, y: F.binary_cross_entropy(z[:, 0].sigmoid(), (y > 0).double()),
    "l1": lambda z, y: F.l1_loss(z[:, 0], y.double()),
    "constant": lambda z, y: 0 * z.sum() + 3.0,
    "zero": lambda z, y: 0 * z.sum(),
    "huge": lambda z, y: 1e150 * F.cross_entropy(z, y),
    "tiny": lambda z, y: 1e-150 * F.cross_entropy(z, y),
    "margin": nn.MultiMarginLoss(),
    "divergence": lambda z, y: F.kl_div(
        z.log_softmax(1), F.one_hot(y, C).double() * 0.8 + 0.2 / C, reduction="batchmean"
    ),
    "two terms": lambda z, y: F.cross_entropy(z, y) + F.cross_entropy(2 * z, y),
}


DOUBLE_ALONE = {"huge", "tiny", "cancels", "equal weights", "weighted probabilities", "probabilities", "divergence"}
UNSUPPORTED = {"l1", "binary", "probability", "margin"}


@pytest.mark.parametrize(
    "kind", ["plain", *(pytest.param(kind, marks=LONG) for kind in ("perfect", "zero", "saturated"))]
)
@pytest.mark.parametrize("loss", MEANS)
def test_means_over_samples_are_never_refused(loss: str, kind: str) -> None:
    model, y = net(scale=100.0 if kind == "saturated" else 1.0), Y
    last = model[2]
    with torch.no_grad():
        if kind == "perfect":
            y = model(X).argmax(1)
            last.weight.mul_(30)
            last.bias.mul_(30)
        elif kind == "zero":
            last.weight.zero_()
            last.bias.zero_()
    for sizes in SPLITS.values():
        assert ls.EmpiricalRisk(model, MEANS[loss], split(sizes, X, y)).loss is MEANS[loss]


@pytest.mark.parametrize(
    "dtype", [torch.float32, *(pytest.param(d, marks=LONG) for d in (torch.bfloat16, torch.float16))]
)
@pytest.mark.parametrize("loss", sorted(MEANS.keys() - DOUBLE_ALONE - UNSUPPORTED))
def test_means_over_samples_are_not_refused_in_short_precision(loss: str, dtype: torch.dtype) -> None:
    given = MEANS[loss]
    rounded: Loss = lambda z, y: given(z.to(dtype), y)
    for each in (given, rounded):
        for sizes in SPLITS.values():
            ls.EmpiricalRisk(net().to(dtype), each, split(sizes, X.to(dtype), Y))


class FixedSize(nn.Module):
    """Insists on the size of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(10, 4))


def test_a_model_that_insists_on_the_size_of_its_batch() -> None:
    ls.EmpiricalRisk(FixedSize(), F.cross_entropy, split(SPLITS["equal"]))
    weighted = ls.EmpiricalRisk(FixedSize(), CLASS_WEIGHTS["module"], split(SPLITS["equal"]))
    expected = CLASS_WEIGHTS["module"](net()(X), Y).detach()
    torch.testing.assert_close(weighted.value(), expected, rtol=1e-12, atol=0)
    with pytest.raises(ModelError, match="is not the mean"):
        ls.EmpiricalRisk(FixedSize(), NO_MEANS["sum"], split(SPLITS["equal"]))
