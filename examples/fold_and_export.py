"""Fold a trained network within a budget, save it, build it again, and export it to ONNX.

Run: python examples/fold_and_export.py FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import nn

import liftscape as ls


def build() -> nn.Module:
    """Return the network as it is before it is trained."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.LeakyReLU(0.7), nn.Linear(32, 10))


def main(folder: Path) -> None:
    """Train on digits, fold, save, load and export."""
    torch.manual_seed(0)
    x, y = (tensor.float() if tensor.is_floating_point() else tensor for tensor in ls.data.digits())
    model, half = build(), len(x) // 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:half]), y[:half]).backward()
        optimizer.step()
    risk = ls.EmpiricalRisk(model, "cross_entropy", (x[:half], y[:half]))
    found = ls.fold_within(risk, budget=0.01, by="accuracy", held_out=(x[half:], y[half:]))
    path = ls.save(found, folder / "small.safetensors", overwrite=True)
    small = ls.load(build, path)
    exported = ls.integrations.to_onnx(small, x[half:], folder / "small.onnx", overwrite=True)
    print(f"{found.reason} onnxruntime agrees with torch: {exported.agrees}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
