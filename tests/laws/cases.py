"""Three hundred networks at critical points, each with fixed seeds: activation × topology × loss × kind × site."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.critical import kink_margin

DTYPE = torch.float64
INPUTS, WIDTH, OUTPUTS = 3, 3, 2


class Residual(nn.Module):
    """x ↦ out(h + block(h)) with h = first(x)."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.block = nn.Sequential(activation(), nn.Linear(WIDTH, WIDTH), activation())
        self.out = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.out(h + self.block(h))


class SharedMap(nn.Module):
    """One map called twice."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.activation = activation()
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.first(x))
        for _ in range(2):
            h = self.activation(self.shared(h))
        return self.out(h)


def chain(activation: Callable[[], nn.Module]) -> nn.Module:
    """Two hidden layers of one activation."""
    return nn.Sequential(
        nn.Linear(INPUTS, WIDTH), activation(), nn.Linear(WIDTH, WIDTH), activation(), nn.Linear(WIDTH, OUTPUTS)
    )


def mixed(activation: Callable[[], nn.Module]) -> nn.Module:
    """Two hidden layers of different activations."""
    return nn.Sequential(
        nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), activation(), nn.Linear(WIDTH, OUTPUTS)
    )


def batch_norm(activation: Callable[[], nn.Module]) -> nn.Module:
    """BatchNorm in full-batch training mode after the first map."""
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), activation(), nn.Linear(WIDTH, OUTPUTS))


TOPOLOGIES = {"chain": chain, "mixed": mixed, "residual": Residual, "shared": SharedMap, "batch norm": batch_norm}
SITES = {
    "chain": ("0", "2", "4"),
    "mixed": ("0", "2", "4"),
    "residual": ("first", "block.1", "out"),
    "shared": ("first", "shared", "out"),
    "batch norm": ("0", "3"),
}
ACTIVATIONS = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.2)}
INSERTED = ("elu", "leaky_relu", "relu", "hardtanh")


@dataclass(frozen=True)
class Case:
    """One network, one loss, one site, one seed."""

    topology: str
    activation: str
    kind: str
    site: str
    inserted: str
    seed: int

    @property
    def label(self) -> str:
        """A name for the test's report."""
        return f"{self.seed}: {self.topology}/{self.activation}/{self.kind}/at {self.site}/{self.inserted}"


def all_cases(count: int) -> Iterator[Case]:
    """Cycle through every topology, activation, kind, site and inserted activation until count cases are made."""
    combinations = [
        (topology, activation, kind, site)
        for topology in TOPOLOGIES
        for activation in ACTIVATIONS
        for kind in ("minimum", "saddle", "cross-entropy")
        for site in SITES[topology]
    ]
    # A stride prime to the number of combinations spreads a short prefix over all of them.
    for seed in range(count):
        topology, activation, kind, site = combinations[(seed * 61) % len(combinations)]
        yield Case(topology, activation, kind, site, INSERTED[seed % len(INSERTED)], seed)


def network(case: Case, attempt: int) -> tuple[nn.Module, Tensor, torch.Generator]:
    """Draw a network with doubled weights, and inputs with five residuals a parameter."""
    generator = torch.Generator().manual_seed(1000 * case.seed + attempt)
    model = TOPOLOGIES[case.topology](ACTIVATIONS[case.activation]).to(DTYPE)
    with torch.no_grad():
        for parameter in model.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=DTYPE)
            parameter.copy_(draw * (1.0 if parameter.ndim == 1 else 2.0 / parameter.shape[1] ** 0.5))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    samples = -(-5 * parameters // OUTPUTS)
    return model, torch.randn(samples, INPUTS, generator=generator, dtype=DTYPE), generator


def planted(case: Case) -> "ls.EmpiricalRisk | None":
    """Plant a critical point, or find one for cross-entropy; None when 200 draws give none."""
    for attempt in range(200):
        model, inputs, generator = network(case, attempt)
        if case.kind == "cross-entropy":
            risk = _searched(model, inputs, generator)
        else:
            risk = _planted(model, inputs, case.kind, generator)
        if risk is not None and _well_conditioned(risk):
            return risk
    return None


def _well_conditioned(risk: "ls.EmpiricalRisk") -> bool:
    """Whether the inertia is decided and no counted eigenvalue is below 1e-7 of the largest."""
    found = ls.curvature.inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))
    largest = float(torch.linalg.eigvalsh(risk.hessian().to_dense()).abs().max())
    return found.decided and found.margin * found.tolerance >= 1e-7 * largest


def _planted(model: nn.Module, inputs: Tensor, kind: str, generator: torch.Generator) -> "ls.EmpiricalRisk | None":
    try:
        targets = ls.plant_critical_point(model, inputs, kind=kind, generator=generator)
    except ls.LiftscapeError:
        return None
    return ls.EmpiricalRisk(model, "mse", (inputs, targets))


def _searched(model: nn.Module, inputs: Tensor, generator: torch.Generator) -> "ls.EmpiricalRisk | None":
    """Search from the drawn network, with labels of pure noise so that the minima are finite."""
    labels = torch.randint(0, OUTPUTS, (len(inputs),), generator=generator)
    risk = ls.EmpiricalRisk(model, "cross_entropy", (inputs, labels))
    # A search that converges does so early; another draw is cheaper than a long search.
    search = ls.find_critical_point(risk, max_steps=40)
    found = risk.with_model(search.model)
    if search.status != "converged" or search.gradient_norm > 1e-13 or kink_margin(found).margin < 1e-6:
        return None
    return found
