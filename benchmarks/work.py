"""The work: two networks with their data, at a fixed point, in float32 and in float64."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import liftscape as ls

__all__ = ["WORKS", "Work", "build", "directions", "to_double", "vector"]

_STEPS, _RATE = 100, 0.2


@dataclass(frozen=True)
class Work:
    """A model in evaluation mode with one batch of data; the loss is the mean cross-entropy."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters, all of which are trainable."""
        return list(self.model.parameters())

    @property
    def size(self) -> int:
        """The number M of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def loss(self) -> Tensor:
        """Return the mean cross-entropy with its graph."""
        return cross_entropy(self.model(self.inputs), self.targets)

    def gradient(self) -> tuple[Tensor, ...]:
        """Return one gradient: the unit in which times are told."""
        return torch.autograd.grad(self.loss(), self.parameters)


def to_double(work: Work) -> Work:
    """Return the same work in float64: the same numbers, for references."""
    return Work(work.name, deepcopy(work.model).double(), work.inputs.double(), work.targets)


def vector(work: Work, seed: int) -> Tensor:
    """Return a fixed normal vector (M,) in float32."""
    return torch.randn(work.size, generator=torch.Generator().manual_seed(seed))


def directions(work: Work) -> tuple[Tensor, Tensor]:
    """Return the two directions of the surface, each of norm 1."""
    first, second = vector(work, 11), vector(work, 12)
    return first / first.norm(), second / second.norm()


def digits_mlp() -> Work:
    """Return 64-128-128-10 with ReLU on the 1,797 digits after 100 full-batch steps.

    They are taken in float64, so that all machines come to the same point.
    """
    x, y = ls.data.digits()
    model = ls.nets.mlp((64, 128, 128, 10), "relu")
    parameters = list(model.parameters())
    for _ in range(_STEPS):
        steps = torch.autograd.grad(cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter -= _RATE * step
    return Work("digits-mlp", model.float().eval(), x.float(), y)


def resnet18() -> Work:
    """Return ResNet-18 for 32 × 32 images on 64 normal inputs, its BatchNorm at the statistics of these."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 32, 32, generator=generator)
    y = torch.randint(10, (64,), generator=generator)
    model = ls.nets.resnet18()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    return Work("resnet18", model.eval(), x, y)


WORKS = {"digits-mlp": digits_mlp, "resnet18": resnet18}


def build(name: str) -> Work:
    """Return the named work."""
    return WORKS[name]()
