"""A risk that is any function of its parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import liftscape as ls


class _Parameters(nn.Module):
    """A module whose output is its parameter, once for each sample."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.p = nn.Parameter(start.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the parameter for every row of x."""
        return self.p.expand(len(x), -1)


def of_parameters(function: Callable[[Tensor], Tensor], start: Tensor) -> ls.EmpiricalRisk:
    """Return the risk R(p) = function(p) at p = start."""
    zero = torch.zeros(1, 1, dtype=start.dtype)
    return ls.EmpiricalRisk(_Parameters(start), lambda z, _: function(z[0]), (zero, zero))
