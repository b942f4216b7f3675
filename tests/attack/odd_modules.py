"""Odd modules: what may stand between a layer, its neurons and the outputs, one line each."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

__all__ = ["CONVOLUTIONS", "ODD", "PLAIN", "Odd", "images", "vectors"]

F64 = torch.float64
Forward = Callable[[Any, Tensor], Any]


class Odd(nn.Module):
    """Two maps a: 3 → 4 and o: 4 → 2 with a forward pass, and maybe further parts, of one's choice."""

    def __init__(self, forward: Forward, prepare: Callable[[Any], object] | None = None) -> None:
        super().__init__()
        self.a, self.o, self.run = nn.Linear(3, 4), nn.Linear(4, 2), forward
        if prepare is not None:
            prepare(self)
        self.double()

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def vectors() -> Tensor:
    """Forty samples of three features."""
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


def images() -> Tensor:
    """Samples of two channels on 5 × 5 places."""
    return torch.randn(90, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=F64)


def h(s: Any, x: Tensor) -> Tensor:
    """The hidden layer."""
    return torch.tanh(s.a(x))


def put(**parts: Any) -> Callable[[Any], None]:
    """Give a module further attributes."""
    return lambda s: [setattr(s, name, copy.deepcopy(part)) for name, part in parts.items()] and None


def tied(s: Any) -> None:
    s.o = nn.Linear(4, 3)
    s.o.weight = s.a.weight if s.a.weight.shape == (3, 4) else s.o.weight
    s.back = nn.Linear(3, 4)
    s.back.weight = s.a.weight


def hooked(s: Any) -> None:
    s.a.register_forward_hook(lambda _m, _i, out: out / out.shape[-1])


def masked(s: Any) -> None:
    s.a.weight.register_hook(lambda g: g * (torch.arange(g.shape[-1]) > 0))


class Scaled(nn.Linear):
    """A map with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.out_features


class Square(torch.autograd.Function):
    """A derivative of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * g * ctx.saved_tensors[0]


# Networks whose width may grow and whose depth may: a refusal of these is a fault too.
PLAIN: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Odd(lambda s, x: s.o(h(s, x))),
    "functional": lambda: Odd(lambda s, x: F.linear(F.relu(F.linear(x, s.a.weight, s.a.bias)), s.o.weight, s.o.bias)),
    "called twice": lambda: Odd(lambda s, x: s.o(h(s, x)) + s.o(h(s, x.flip(0)))),
    "two readers": lambda: Odd(lambda s, x: s.o(h(s, x)) * s.p(h(s, x)), put(p=nn.Linear(4, 2))),
    "residual": lambda: Odd(lambda s, x: x[:, :2] + s.o(h(s, x))),
    "batch norm, eval": lambda: Odd(lambda s, x: s.o(F.relu(s.n(s.a(x)))), put(n=nn.BatchNorm1d(4))).eval(),
    "batch norm, train": lambda: Odd(lambda s, x: s.o(F.relu(s.n(s.a(x)))), put(n=nn.BatchNorm1d(4))),
    "dict output": lambda: Odd(lambda s, x: {"logits": s.o(h(s, x)), "inputs": x}),
    "checkpoint": lambda: Odd(lambda s, x: s.o(checkpoint(lambda t: torch.tanh(s.a(t)), x, use_reentrant=False))),
    "cast": lambda: Odd(lambda s, x: s.o(h(s, x.to(next(s.parameters()).dtype)))),
    "size of the samples": lambda: Odd(lambda s, x: s.o(h(s, x)) / x.shape[0]),
    "scaled by a number": lambda: Odd(lambda s, x: s.o(2 * h(s, x) - 1)),
    "sequence": lambda: Odd(lambda s, x: s.o(h(s, x[:, None].expand(-1, 2, -1)))[:, 0]),
    "inactive dropout": lambda: Odd(lambda s, x: s.o(s.d(h(s, x))), put(d=nn.Dropout(0.5))).eval(),
    "bilinear in itself": lambda: Odd(lambda s, x: s.o(h(s, x)) * s.o(h(s, x))),
}
ODD: dict[str, Callable[[], nn.Module]] = {
    "last axis of h": lambda: Odd(lambda s, x: s.o(h(s, x)) / h(s, x).shape[-1]),
    "size()": lambda: Odd(lambda s, x: s.o(h(s, x)) / h(s, x).size(1)),
    "numel": lambda: Odd(lambda s, x: s.o(h(s, x)) / h(s, x).numel()),
    "rows of the weight": lambda: Odd(lambda s, x: s.o(h(s, x)) / s.a.weight.shape[0]),
    "len of the bias": lambda: Odd(lambda s, x: s.o(h(s, x)) / len(s.a.bias)),
    "columns of the reader": lambda: Odd(lambda s, x: s.o(h(s, x)) * s.o.weight.shape[1] ** 0.5),
    "out_features": lambda: Odd(lambda s, x: s.o(h(s, x)) / s.a.out_features),
    "in_features of the reader": lambda: Odd(lambda s, x: s.o(h(s, x)) - s.o.in_features),
    "sum over parameters": lambda: Odd(lambda s, x: s.o(h(s, x)) + sum(p.sum() for p in s.parameters())),
    "squares over parameters": lambda: Odd(lambda s, x: s.o(h(s, x)) + sum(p.square().sum() for p in s.parameters())),
    "number of parameters": lambda: Odd(lambda s, x: s.o(h(s, x)) * sum(p.numel() for p in s.parameters())),
    "gradient only": lambda: Odd(lambda s, x: s.o(h(s, x)) + sum((p - p.detach()).sum() for p in s.parameters())),
    "out-weights only": lambda: Odd(lambda s, x: s.o(h(s, x)) + (s.o.weight - s.o.weight.detach()).square().sum()),
    "state dict": lambda: Odd(lambda s, x: s.o(h(s, x)) + s.state_dict()["a.weight"].mean()),
    "data of the weight": lambda: Odd(lambda s, x: s.o(h(s, x)) * s.a.weight.data.norm()),
    "mean of h": lambda: Odd(lambda s, x: s.o(h(s, x)) - h(s, x).mean(-1, keepdim=True)),
    "largest of h": lambda: Odd(lambda s, x: s.o(h(s, x)) + h(s, x).amax(-1, keepdim=True)),
    "softmax": lambda: Odd(lambda s, x: s.o(torch.softmax(s.a(x), -1))),
    "layer norm": lambda: Odd(lambda s, x: s.o(F.layer_norm(s.a(x), (s.a.out_features,)))),
    "layer norm module": lambda: Odd(lambda s, x: s.o(s.n(s.a(x))), put(n=nn.LayerNorm(4))),
    "group norm": lambda: Odd(lambda s, x: s.o(F.group_norm(s.a(x), 1))),
    "normalised": lambda: Odd(lambda s, x: s.o(F.normalize(s.a(x), dim=-1))),
    "mask in a buffer": lambda: Odd(
        lambda s, x: s.o(h(s, x) * s.mask), lambda s: s.register_buffer("mask", torch.arange(4.0))
    ),
    "gate": lambda: Odd(lambda s, x: s.o(h(s, x) * s.gate), lambda s: put(gate=nn.Parameter(torch.ones(4)))(s)),
    "prelu of each": lambda: Odd(lambda s, x: s.o(s.r(s.a(x))), put(r=nn.PReLU(4))),
    "two paths": lambda: Odd(lambda s, x: s.o(torch.tanh(s.a(x))) + s.o(torch.relu(s.a(x)))),
    "reads itself": lambda: Odd(lambda s, x: s.o(h(s, h(s, x)[:, :3]))),
    "concatenated": lambda: Odd(lambda s, x: s.p(torch.cat([h(s, x), x], -1)), put(p=nn.Linear(7, 2))),
    "flipped": lambda: Odd(lambda s, x: s.o(h(s, x).flip(-1))),
    "sorted": lambda: Odd(lambda s, x: s.o(h(s, x).sort(-1).values)),
    "one neuron": lambda: Odd(lambda s, x: s.o(h(s, x)) + h(s, x)[:, :1]),
    "from the end": lambda: Odd(lambda s, x: s.o(h(s, x)) + h(s, x)[:, -1:]),
    "attention": lambda: Odd(
        lambda s, x: s.o(s.m(h(s, x)[None], h(s, x)[None], h(s, x)[None])[0][0]),
        put(m=nn.MultiheadAttention(4, 2, batch_first=True)),
    ),
    "detached": lambda: Odd(lambda s, x: s.o(h(s, x).detach())),
    "without grad": lambda: Odd(lambda s, x: s.o(h(s, x)) + (torch.no_grad()(lambda: s.a(x))()).sum(-1, keepdim=True)),
    "own derivative": lambda: Odd(lambda s, x: s.o(Square.apply(s.a(x)))),
    "numpy inside": lambda: Odd(lambda s, x: s.o(h(s, x)) * float(s.a(x).detach().numpy().shape[1])),
    "number in the output": lambda: Odd(lambda s, x: (s.o(h(s, x)), s.a.out_features)),
    "hidden in the output": lambda: Odd(lambda s, x: (s.o(h(s, x)), h(s, x))),
    "branch on the width": lambda: Odd(lambda s, x: s.o(h(s, x)) * (2.0 if s.a(x).shape[-1] > 4 else 1.0)),
    "branch on the batch": lambda: Odd(lambda s, x: s.o(h(s, x)) / (s.a(x).shape[-1] if len(x) > 35 else 1)),
    "tied": lambda: Odd(lambda s, x: s.o(h(s, x)) + F.linear(s.back(x[:, :3]), s.a.weight.T)[:, :1], tied),
    "in a list": lambda: Odd(
        lambda s, x: s.layers[1](torch.tanh(s.layers[0](x))), lambda s: setattr(s, "layers", [s.a, s.o])
    ),
    "behind a lambda": lambda: Odd(lambda s, x: s.o(s.f(x)), lambda s: setattr(s, "f", lambda x: torch.tanh(s.a(x)))),
    "forward hook": lambda: Odd(lambda s, x: s.o(h(s, x)), hooked),
    "gradient hook": lambda: Odd(lambda s, x: s.o(h(s, x)), masked),
    "own forward": lambda: Odd(lambda s, x: s.o(torch.tanh(s.a(x))), lambda s: setattr(s, "a", Scaled(3, 4))),
    "weight norm": lambda: Odd(lambda s, x: s.o(h(s, x)), lambda s: parametrizations.weight_norm(s.a)),
    "frozen reader": lambda: Odd(lambda s, x: s.o(h(s, x)), lambda s: s.o.requires_grad_(False)),
    "no bias of the reader": lambda: Odd(lambda s, x: s.o(h(s, x)), lambda s: setattr(s, "o", nn.Linear(4, 2, False))),
    "counting": lambda: Odd(lambda s, x: (setattr(s, "n", s.n + 1), s.o(h(s, x)))[1], put(n=0)),
    "cached width": lambda: Odd(lambda s, x: s.o(h(s, x)) / s.width, put(width=4)),
    "einsum": lambda: Odd(lambda s, x: torch.einsum("ni,oi->no", h(s, x), s.o.weight) + s.o.bias),
    "recurrent": lambda: Odd(lambda s, x: s.o(s.r(h(s, x)[None])[0][0]), put(r=nn.RNN(4, 4))),
}


def convolutional(act: nn.Module, second: nn.Module, *rest: nn.Module, first: nn.Module | None = None) -> nn.Module:
    """Return two convolutions with an activation between, and a small head."""
    start = nn.Conv2d(2, 3, 3, padding=1) if first is None else first
    head = (*rest, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(2 * 4, 2))
    return nn.Sequential(start, act, second, *head).double()


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "unpadded": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 3)),
    "zero padding": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1)),
    "zero padding, relu": lambda: convolutional(nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)),
    "same padding": lambda: convolutional(nn.Sigmoid(), nn.Conv2d(3, 2, 3, padding="same")),
    "circular padding": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")),
    "reflected padding": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")),
    "stride": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 3, stride=2)),
    "dilation": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 2, dilation=2)),
    "dilation with padding": lambda: convolutional(nn.Tanh(), nn.Conv2d(3, 2, 2, dilation=2, padding=1)),
    "groups of the reader": lambda: convolutional(
        nn.Tanh(), nn.Conv2d(4, 2, 3, groups=2), first=nn.Conv2d(2, 4, 3, padding=1)
    ),
    "groups of the layer": lambda: convolutional(
        nn.Tanh(), nn.Conv2d(4, 2, 3), first=nn.Conv2d(2, 4, 3, groups=2, padding=1)
    ),
    "padded pool": lambda: convolutional(nn.Sequential(nn.Tanh(), nn.AvgPool2d(2, padding=1)), nn.Conv2d(3, 2, 2)),
    "batch norm": lambda: convolutional(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), nn.Conv2d(3, 2, 3)).eval(),
    "padded, batch norm": lambda: convolutional(
        nn.Sequential(nn.BatchNorm2d(3), nn.Tanh()), nn.Conv2d(3, 2, 3, padding=1)
    ).eval(),
    "flattened": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)
    ).double(),
    "zero padding module": lambda: convolutional(nn.Sequential(nn.Tanh(), nn.ZeroPad2d(1)), nn.Conv2d(3, 2, 3)),
    "channel shuffle": lambda: convolutional(
        nn.Sequential(nn.Tanh(), nn.Unflatten(1, (3, 1)), nn.Flatten(1, 2)), nn.Conv2d(3, 2, 3)
    ),
}
