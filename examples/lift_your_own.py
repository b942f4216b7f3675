"""Lift one layer of a module of your own, check the embedding, and fold it back.

Run: python examples/lift_your_own.py
"""

import torch
from torch import Tensor, nn

import liftscape as ls


class Gated(nn.Module):
    """A small network as a user writes it: a branch, a residual sum, functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 6)
        self.branch = nn.Linear(6, 6)
        self.decode = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return decode(h + tanh(branch(h))) with h = tanh(encode(x))."""
        h = torch.tanh(self.encode(x))
        return self.decode(h + torch.tanh(self.branch(h)))


def main() -> None:
    """Plant a minimum, lift it in front of `branch`, certify both, fold the lift away."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Gated().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    inputs = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    targets = ls.plant_critical_point(model, inputs, kind="minimum", generator=generator)
    risk = ls.EmpiricalRisk(model, "mse", (inputs, targets))
    print("shallow:", ls.certify(risk).kind)

    embedding = ls.lift(model, inputs, "branch", width=8, activation="elu", generator=generator)
    print(embedding.model)
    print("lifted: ", ls.certify(risk.with_model(embedding.model), known_flat=embedding.manifold).kind)
    ls.checks.check_embedding(embedding, risk)

    folded = ls.fold(embedding.model, inputs)
    gap = (folded.model.branch.weight - model.branch.weight).detach().abs().max()
    print(f"folded {folded.removed}: the largest difference to the first weights is {float(gap):.1e}")


if __name__ == "__main__":
    main()
