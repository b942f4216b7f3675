"""Hessian products for every layer kind against central finite differences of the gradient, and their symmetry."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp

import liftscape as ls

F64 = torch.float64
SAMPLES = 6


class Tail(nn.Module):
    """A layer, a smooth function and a linear map to two outputs."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...], batch_first: bool = True) -> None:
        super().__init__()
        self.layer, self.shape, self.batch_first = layer, shape, batch_first
        out = self.features(torch.randn(SAMPLES, *shape))
        self.out = nn.Linear(out.flatten(1).shape[1], 2)

    def features(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        if isinstance(self.layer, nn.MultiheadAttention):
            h = self.layer(x, x, x)[0]
        elif isinstance(self.layer, nn.RNNBase):
            h = self.layer(x)[0]
        else:
            h = self.layer(x)
        return h if self.batch_first else h.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.features(x)).flatten(1))


def encoder_layer(batch_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, activation="gelu", batch_first=batch_first)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: Tail(nn.Linear(3, 4), (3,)),
    "Conv1d": lambda: Tail(nn.Conv1d(2, 3, 2, padding=1, stride=2), (2, 5)),
    "Conv2d": lambda: Tail(nn.Conv2d(2, 4, 2, padding=1, groups=2), (2, 3, 3)),
    "Conv3d": lambda: Tail(nn.Conv3d(1, 2, 2, dilation=1), (1, 3, 3, 3)),
    "ConvTranspose1d": lambda: Tail(nn.ConvTranspose1d(2, 3, 2, stride=2), (2, 3)),
    "ConvTranspose2d": lambda: Tail(nn.ConvTranspose2d(2, 2, 2, padding=1), (2, 3, 3)),
    "ConvTranspose3d": lambda: Tail(nn.ConvTranspose3d(1, 2, 2), (1, 2, 2, 2)),
    "BatchNorm1d": lambda: Tail(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (3,)),
    "BatchNorm2d": lambda: Tail(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)), (1, 3, 3)),
    "BatchNorm3d": lambda: Tail(nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2)), (1, 3, 2, 2)),
    "LayerNorm": lambda: Tail(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), (3,)),
    "GroupNorm": lambda: Tail(nn.Sequential(nn.Conv1d(2, 4, 2), nn.GroupNorm(2, 4)), (2, 4)),
    "InstanceNorm1d": lambda: Tail(nn.Sequential(nn.Conv1d(2, 3, 2), nn.InstanceNorm1d(3, affine=True)), (2, 5)),
    "InstanceNorm2d": lambda: Tail(
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)), (1, 3, 3)
    ),
    "RMSNorm": lambda: Tail(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4)), (3,)),
    "LSTM": lambda: Tail(nn.LSTM(2, 3, num_layers=2, batch_first=True), (3, 2)),
    "LSTM, time first": lambda: Tail(nn.LSTM(2, 3, bidirectional=True), (3, 2), batch_first=False),
    "GRU": lambda: Tail(nn.GRU(2, 3, batch_first=True), (3, 2)),
    "RNN": lambda: Tail(nn.RNN(2, 3, batch_first=True), (3, 2)),
    "MultiheadAttention": lambda: Tail(nn.MultiheadAttention(4, 2, batch_first=True), (3, 4)),
    "MultiheadAttention, time first": lambda: Tail(nn.MultiheadAttention(4, 2), (3, 4), batch_first=False),
    "TransformerEncoderLayer": lambda: Tail(encoder_layer(True), (3, 4)),
    "TransformerEncoderLayer, time first": lambda: Tail(encoder_layer(False), (3, 4), batch_first=False),
}


def shake(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw all parameters and running statistics, so that nothing is zero or one by chance."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64) * 0.6)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=F64) + 0.5)
    return model


def check_products(risk: ls.EmpiricalRisk, generator: torch.Generator, error: float = 1e-6) -> None:
    """H v against (g(θ + hv) − g(θ − hv)) / 2h, and uᵀHv against vᵀHu."""
    H, theta, h = risk.hessian(), risk.flatten(), 2e-5
    u, v = (torch.randn(risk.size, generator=generator, dtype=F64) for _ in range(2))
    there, back = (risk.gradient(risk.unflatten(theta + sign * h * v)) for sign in (1, -1))
    expected = (there - back) / (2 * h)
    assert float(expected.norm()) > 1e-3
    Hv, Hu = H @ v, H @ u
    assert float((Hv - expected).norm() / expected.norm()) <= error
    assert abs(float(u @ Hv - v @ Hu)) <= 1e-10 * max(1.0, float(u.norm() * Hv.norm()))
    assert torch.equal(H @ v, Hv), "the kept graph gives other bytes"
    block = H @ torch.stack([u, v], dim=1)
    torch.testing.assert_close(block, torch.stack([Hu, Hv], dim=1), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_products_are_the_differences_of_the_gradient(
    kind: str, mode: str, loss: str, generator: torch.Generator
) -> None:
    model = shake(LAYERS[kind]().to(F64).train(mode == "train"), generator)
    x = torch.randn(SAMPLES, *model.shape, generator=generator, dtype=F64)
    y = torch.randn(SAMPLES, 2, generator=generator, dtype=F64) if loss == "mse" else torch.arange(SAMPLES) % 2
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    risk = ls.EmpiricalRisk(model, loss, (x, y))
    check_products(risk, generator)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


class Tokens(nn.Module):
    """Embedding, tied to the map that scores tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.mix = nn.Linear(3, 3)
        self.scores = nn.Linear(3, 5)
        self.scores.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scores(torch.tanh(self.mix(self.embedding(tokens).mean(dim=1))))


@dataclass
class Returned:
    logits: Tensor
    hidden: Tensor | None = None


class Pair(NamedTuple):
    hidden: Tensor
    logits: Tensor


class Inputs(nn.Module):
    """Takes two inputs, returns what it is told to."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)
        self.frozen, self.unused = nn.Linear(4, 4), nn.Linear(2, 2)
        self.frozen.requires_grad_(False)
        self.answer = answer

    def forward(self, left: Tensor, right: Tensor) -> Any:
        h = torch.tanh(self.frozen(torch.tanh(self.left(left) * self.right(right))))
        return self.answer(self.out(h), h)


ANSWERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "dict": lambda logits, hidden: {"hidden": hidden, "logits": logits},
    "dataclass": Returned,
    "named tuple": lambda logits, hidden: Pair(hidden, logits),
    "only tensor": lambda logits, _: (logits, None),
}


def two_inputs(as_mapping: bool, generator: torch.Generator) -> Any:
    left, right = (torch.randn(SAMPLES, n, generator=generator, dtype=F64) for n in (3, 2))
    return {"right": right, "left": left} if as_mapping else (left, right)


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize("answer", ANSWERS)
def test_several_inputs_and_structured_outputs(answer: str, as_mapping: bool, generator: torch.Generator) -> None:
    model = shake(Inputs(ANSWERS[answer]).to(F64), generator)
    inputs = two_inputs(as_mapping, generator)
    y = torch.randn(SAMPLES, 2, generator=generator, dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (inputs, y))
    plain = copy.deepcopy(model)
    plain.answer = lambda logits, _: logits
    same = ls.EmpiricalRisk(plain, "mse", (inputs, y))
    assert torch.equal(risk.value(), same.value())
    assert torch.equal(next(risk.outputs()), next(same.outputs()))
    check_products(risk, generator)
    rows = risk.hessian().to_dense()[-6:]
    assert list(risk.parameters)[-2:] == ["unused.weight", "unused.bias"]
    assert not any(name.startswith("frozen") for name in risk.parameters)
    assert float(rows.abs().max()) == 0


def test_a_loss_of_ones_own_gets_what_the_model_returns(generator: torch.Generator) -> None:
    model = shake(Inputs(ANSWERS["dict"]).to(F64), generator)
    y = torch.randn(SAMPLES, 2, generator=generator, dtype=F64)
    loss = lambda output, target: ((output["logits"] - target) ** 4).mean() + (output["hidden"] ** 2).mean()
    risk = ls.EmpiricalRisk(model, loss, (two_inputs(False, generator), y))
    check_products(risk, generator)
    assert next(risk.outputs()).shape == (SAMPLES, 2)


def test_an_output_without_logits_is_named(generator: torch.Generator) -> None:
    model = Inputs(lambda logits, hidden: {"a": logits, "b": hidden}).to(F64)
    data = (two_inputs(False, generator), torch.zeros(SAMPLES, 2, dtype=F64))
    with pytest.raises(ls.LiftscapeError, match=r"mse needs .*'logits'.*dict with the entries a \(6, 2\), b \(6, 4\)"):
        ls.EmpiricalRisk(model, "mse", data)


def test_embedding_with_tied_weights(generator: torch.Generator) -> None:
    model = shake(Tokens().to(F64), generator)
    tokens, y = (torch.randint(0, 5, size, generator=generator) for size in ((SAMPLES, 4), (SAMPLES,)))
    risk = ls.EmpiricalRisk(model, "cross_entropy", (tokens, y))
    assert risk.size == 15 + 12 + 5
    check_products(risk, generator)
    assert torch.equal(risk.hessian(at="scores").to_dense(), risk.hessian(at=["embedding", "scores.bias"]).to_dense())


class Residual(nn.Module):
    """u″ + u at points x, by derivatives of the network with respect to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        x.requires_grad_()
        u = self.net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return bend + u


def test_a_physics_informed_residual(generator: torch.Generator) -> None:
    model = shake(Residual().to(F64), generator)
    x = torch.linspace(0, 1, 7, dtype=F64).unsqueeze(1)
    risk = ls.EmpiricalRisk(model, lambda residual, target: ((residual - target) ** 2).mean(), (x, x.sin()))
    h, (first, _, second, _) = x @ model.net[0].weight.T + model.net[0].bias, model.net.parameters()
    t = h.tanh()
    bend = (-2 * t * (1 - t**2) * first.T**2) @ second.T
    expected = ((bend + model.net(x) - x.sin()) ** 2).mean()
    torch.testing.assert_close(risk.value(), expected.detach(), rtol=1e-12, atol=1e-14)
    assert not risk.value().requires_grad
    with torch.no_grad():
        assert not next(risk.outputs()).requires_grad
    check_products(risk, generator)
    assert not x.requires_grad


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.BatchNorm1d(4)], ids=["LayerNorm", "BatchNorm"])
def test_products_are_right_where_jvp_of_jacrev_is_not(norm: nn.Module, generator: torch.Generator) -> None:
    model = shake(nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 2)).to(F64).train(), generator)
    x, y = (torch.randn(SAMPLES, n, generator=generator, dtype=F64) for n in (3, 2))
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    check_products(risk, generator)
    theta = risk.parameters
    v = {name: torch.randn(tensor.shape, generator=generator, dtype=F64) for name, tensor in theta.items()}

    def value(params: dict[str, Tensor]) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return nn.functional.mse_loss(functional_call(model, {**params, **buffers}, (x,)), y)

    _, wrong = jvp(jacrev(value), (theta,), (v,))
    ours = risk.unflatten(risk.hessian() @ torch.cat([part.reshape(-1) for part in v.values()]))
    gap = max(float((wrong[name] - ours[name]).norm() / ours[name].norm()) for name in ours)
    # The day this fails, torch's forward mode has become right.
    assert gap > 1e-3


def test_unequal_batches_weigh_by_their_samples(generator: torch.Generator) -> None:
    model = shake(LAYERS["LayerNorm"]().to(F64), generator)
    x, y = (torch.randn(10, n, generator=generator, dtype=F64) for n in (3, 2))
    split = ls.EmpiricalRisk(model, "mse", [(x[:9], y[:9]), (x[9:], y[9:])])
    check_products(split, generator)
    whole, parts = ls.EmpiricalRisk(model, "mse", (x, y)).hessian().to_dense(), split.hessian().to_dense()
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-13)
    ends = [
        ls.EmpiricalRisk(model, "mse", (x[part], y[part])).hessian().to_dense() for part in (slice(9), slice(9, 10))
    ]
    assert float(((ends[0] + ends[1]) / 2 - whole).norm() / whole.norm()) > 0.01
