"""Train a small network until its loss stands, let it grow by a layer that lowers the loss, and train on.

Run: python examples/grow_at_plateaus.py
"""

import torch
from torch import nn

import liftscape as ls


def target(x: torch.Tensor) -> torch.Tensor:
    """Return a curve that two tanh neurons cannot follow."""
    return torch.sin(3 * x) + 0.5 * x.abs()


def main() -> None:
    """Grow twice, with a callback that tells what happened."""
    x = torch.linspace(-2, 2, 100, dtype=torch.float64)[:, None]
    model = ls.nets.mlp((1, 2, 1), "tanh", torch.Generator().manual_seed(0))
    risk = ls.EmpiricalRisk(model, "mse", (x, target(x)))

    def tell(growth: ls.Growth) -> None:
        found = growth.escape
        print(f"step {growth.step}: {found.reason}")

    growth = ls.GrowthSchedule(risk, layers=2, width=16, neurons=4, patience=100, callback=tell)
    model, optimizer = growth.train(model, torch.optim.Adam(model.parameters(), lr=0.005), steps=2500)
    print(f"{growth.inserted} layers inserted, final loss {float(risk.with_model(model).value()):.2e}")

    # The same in a loop of one's own: step() takes the place of a learning-rate scheduler's.
    growth = ls.GrowthSchedule(risk, layers=1, width=16, neurons=4, patience=100)
    model = ls.nets.mlp((1, 2, 1), "tanh", torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target(x))
        loss.backward()
        optimizer.step()
        model, optimizer = growth.step(model, optimizer, loss.item())
    print(f"{growth.inserted} layer inserted, final loss {float(risk.with_model(model).value()):.2e}")


if __name__ == "__main__":
    main()
