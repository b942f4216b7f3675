"""Networks that are stuck: at planted and at found minima."""

import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def planted(seed: int, dtype: torch.dtype = F64) -> ls.EmpiricalRisk:
    """A small network at a planted minimum of its mean squared error; widths, depth and activation vary."""
    draws = torch.Generator().manual_seed(seed)
    sizes = [int(torch.randint(1, 4, (), generator=draws)) for _ in range(3)]
    widths = (sizes[0] + 1, sizes[1] + 1, *([2] if seed % 3 == 0 else []), sizes[2])
    while True:
        model = ls.nets.mlp(widths, ("tanh", "sigmoid", "softplus")[seed % 3], draws, scale=2.0)
        inputs = torch.randn(60, widths[0], generator=draws, dtype=F64)
        try:
            targets = ls.plant_critical_point(model, inputs, kind="minimum", generator=draws)
        except ls.LiftscapeError:  # weights at which the Jacobian is ill conditioned
            continue
        return ls.EmpiricalRisk(model.to(dtype), "mse", (inputs.to(dtype), targets.to(dtype)))


def planted_cnn() -> ls.EmpiricalRisk:
    """A convolutional network at a planted minimum."""
    draws = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    body = (nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Tanh())
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 2)).double()
    inputs = torch.randn(90, 1, 4, 4, generator=draws, dtype=F64)
    targets = ls.plant_critical_point(model, inputs, kind="minimum", generator=draws)
    return ls.EmpiricalRisk(model, "mse", (inputs, targets))


def iris(widths: tuple[int, ...] = (3, 1, 1), activation: str = "tanh") -> ls.EmpiricalRisk:
    """A minimum of a small network on Iris."""
    risk = ls.EmpiricalRisk(ls.nets.mlp(widths, activation), "mse", ls.data.iris_petal_width())
    return risk.with_model(ls.find_critical_point(risk, method="minimum").model)


def classes(widths: tuple[int, ...] = (2, 3), seed: int = 0) -> ls.EmpiricalRisk:
    """A minimum of the cross-entropy on classes that overlap."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(80, widths[0], generator=draws, dtype=F64)
    noise = 0.8 * torch.randn(80, widths[-1], generator=draws, dtype=F64)
    y = (torch.stack([x[:, 0].abs(), x[:, 1], 0.5 - x[:, 0]], dim=1) + noise).argmax(dim=1)
    risk = ls.EmpiricalRisk(ls.nets.mlp(widths), "cross_entropy", (x, y))
    return risk.with_model(ls.find_critical_point(risk, method="minimum").model)


def state(model: nn.Module) -> list[Tensor]:
    """Copies of all that a module holds."""
    return [tensor.detach().clone() for tensor in model.state_dict().values()]
