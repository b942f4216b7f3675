"""What a fold will do to the risk, to first order, before it is made."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.linearity import Run
from liftscape.risk import EmpiricalRisk

__all__ = ["predicted_change"]


def predicted_change(risk: EmpiricalRisk, run: Run, map_: nn.Module) -> float:
    """Return the first-order change of R where a map takes the place of a run: ⟨E[e hᵀ], Ŵ⟩ + ⟨E e, b̂⟩ − E⟨e, z⟩.

    With h what reaches the run, z what leaves it and e = ∂ℓ/∂z, it is R′(0) of r ↦ R with z + r(Ŵh + b̂ − z) in the
    place of z: the gradient of one number, whatever the sizes.

    Source: derived (theory 5).

    Args:
        risk: of the network with the run; its model is left as it was.
        run: of that network, its activation a module.
        map_: Ŵ, b̂ as a module.

    Returns:
        The change.

    Example:
        >>> from liftscape.linearity import find_runs, fit_runs, replace_run
        >>> x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
        >>> net = nn.Sequential(nn.Linear(1, 4), nn.Softplus(), nn.Linear(4, 1)).double()
        >>> risk, run = EmpiricalRisk(net, "mse", (x, net(x).detach())), find_runs(net, x)[0]
        >>> fitted = replace_run(net, run, fit_runs(net, [run], x)["1"]).get_submodule(run.last)
        >>> predicted_change(risk, run, fitted)
        0.0
    """
    total = 0.0
    r = torch.zeros((), dtype=torch.float64, device=risk.flatten().device, requires_grad=True)
    with torch.enable_grad(), _moved(risk.model, run, map_, r):
        for term in risk.terms(risk.parameters):
            slope = torch.autograd.grad(term, r, allow_unused=True)[0] if term.requires_grad else None
            total += 0.0 if slope is None else float(slope)
    return total


@contextmanager
def _moved(model: nn.Module, run: Run, map_: nn.Module, r: Tensor) -> Generator[None]:
    """Let z + r(Ŵh + b̂ − z) leave the run while the context lasts."""
    entered: list[Tensor] = []

    def enter(_module: nn.Module, args: Any) -> None:
        # What the run reads may be overwritten in place before it is left.
        entered.append(args[0].detach().clone())

    def leave(_module: nn.Module, _args: Any, z: Tensor) -> Tensor:
        with torch.no_grad():
            step = map_(entered.pop()) - z
        return z + r.to(z.dtype) * step

    handles = [
        model.get_submodule(run.first).register_forward_pre_hook(enter),
        model.get_submodule(run.last).register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
