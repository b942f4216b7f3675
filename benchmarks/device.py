"""Seconds and ratios on any device: products, reorthogonalisation, ensembles.

Run as python -m benchmarks.device cuda.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import liftscape as ls
from benchmarks.micro import ensembles, orthogonalising
from benchmarks.work import build

__all__ = ["measure"]

_ROUNDS = 15


def measure(device: torch.device) -> dict[str, Any]:
    """Return seconds of each work and their ratios, on a device."""
    found: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        found["name"] = torch.cuda.get_device_name(device)
    for name in ("digits-mlp", "resnet18"):
        found[name] = _products(name, device)
    return found | {"reorthogonalise": _reorthogonalise(device), "ensemble": _ensemble(device)}


def _seconds(function: Callable[[], object], device: torch.device, rounds: int = _ROUNDS) -> float:
    """Return the median wall time, with the device's queue empty before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    function()
    times = []
    for _ in range(rounds):
        wait()
        before = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def _products(name: str, device: torch.device) -> dict[str, float]:
    """Return a product and the top of the spectrum in gradients."""
    work = build(name)
    model, x, y = work.model.to(device), work.inputs.to(device), work.targets.to(device)
    risk = ls.EmpiricalRisk(model, "cross_entropy", (x, y))
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = risk.hessian()
    kept.prepare()
    v = torch.randn(kept.size, generator=torch.Generator().manual_seed(1)).to(device)
    gradient = _seconds(lambda: torch.autograd.grad(nn.functional.cross_entropy(model(x), y), leaves), device)
    found = {"gradient": gradient}
    found["kept/gradient"] = _seconds(lambda: kept @ v, device) / gradient
    # A new operator keeps no graph for its first product.
    found["rebuilt/gradient"] = _seconds(lambda: risk.hessian() @ v, device) / gradient
    block = torch.randn(kept.size, 8, generator=torch.Generator().manual_seed(2)).to(device)
    found["block of 8/gradient, a vector"] = _seconds(lambda: kept @ block, device) / gradient / 8
    steps = 100 if name == "digits-mlp" else 20
    density = lambda: ls.curvature.spectral_density(kept, steps=steps, probes=1)
    found[f"density, {steps} steps"] = _seconds(density, device, 2)
    return found


def _reorthogonalise(device: torch.device) -> dict[str, float]:
    """Return the seconds of taking 30 vectors of 11.2 M entries out of a further one, and those of a loop."""
    seconds = {name: _seconds(function, device) for name, function in orthogonalising(device).items()}
    return seconds | {"ratio": seconds["ours"] / seconds["loop"]}


def _ensemble(device: torch.device) -> dict[str, float]:
    """Return network steps a second of 256 networks at once, and of an ordinary loop."""
    steps, functions = 200, ensembles(device, steps=200, looped=1)
    mine, theirs = 256 * steps / _seconds(functions["ours"], device, 3), steps / _seconds(functions["loop"], device, 3)
    return {"ours": mine, "loop": theirs, "ratio": mine / theirs}


if __name__ == "__main__":
    print(json.dumps(measure(torch.device(sys.argv[1])), indent=1))
