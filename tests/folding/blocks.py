"""Residual blocks for the tests of what collapses."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ADDITIONS", "F64", "Block", "far"]

F64 = torch.float64
ADDITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "operator": lambda a, b: a + b,
    "function": torch.add,
    "method": lambda a, b: a.add(b),
    "turned": lambda a, b: b + a,
}


def in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


ADDITIONS["in place"] = in_place


class Block(nn.Module):
    """x ↦ σ(shortcut(x) + branch(x)), σ called as a function."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, addition: str = "operator") -> None:
        super().__init__()
        self.branch, self.shortcut, self.addition = branch, shortcut, addition

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(ADDITIONS[self.addition](self.branch(x), other))


def far(model: nn.Module, shift: float = 60.0) -> nn.Module:
    """Shift every map or norm in front of an activation module so far that one piece holds its neurons."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Sequential):
                children = list(module)
                for child, after in pairwise(children):
                    if isinstance(after, (nn.ReLU, nn.LeakyReLU)) and child.bias is not None:
                        child.bias += shift
    return model
