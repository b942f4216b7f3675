"""The sum of what several modules make of one input."""

from typing import final

from torch import Tensor, nn

__all__ = ["Parallel"]


@final
class Parallel(nn.Module):
    """x ↦ Σ_i f_i(x), for modules f_i that read the same input."""

    def __init__(self, **branches: nn.Module) -> None:
        """Take the modules by name, at least one."""
        super().__init__()
        for name, module in branches.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of what the branches make of x."""
        # All of them: children would leave out a module that stands in two places.
        first, *others = (branch for branch in self._modules.values() if branch is not None)
        total = first(x)
        for branch in others:
            total = total + branch(x)
        return total
