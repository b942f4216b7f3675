"""When a lifted local minimum becomes a strict saddle, case by case, and how long training stays there."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from liftscape.critical import certify
from liftscape.curvature import inertia
from liftscape.risk import EmpiricalRisk
from liftscape.studies.strict_saddle_cases import Case, build_case
from liftscape.studies.strict_saddle_findings import EVERY, RULES, summarise
from liftscape.studies.strict_saddle_settings import Settings
from liftscape.training import train_ensemble

__all__ = ["Settings", "run_task", "summarise", "tasks"]

Row = Mapping[str, Any]


def tasks(config: Settings) -> list[str]:
    """Return one task for each case and seed.

    Args:
        config: the settings.

    Returns:
        Their names, "case/seed".
    """
    names = ["interior", "boundary down", "boundary up", "tangency"]
    names += [f"inflection {epsilon:g}" for epsilon in config.epsilons]
    names += [f"split {share:g}" for share in config.shares]
    return [f"{name}/{seed}" for name in names for seed in range(config.seeds)]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Certify a case, and train from it and from random points.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where networks are trained; matrices of some dozens of rows stay on the CPU.

    Returns:
        Its row.
    """
    name, _, seed = task.partition("/")
    case = build_case(config, name, int(seed))
    certificate = certify(case.deeper, known_flat=case.known_flat)
    H = case.deeper.hessian().to_dense()
    eigenvalues = torch.linalg.eigvalsh((H + H.T) / 2)
    measured = inertia(H) if certificate.inertia is None else certificate.inertia
    if case.units is not None:
        # An approximate lift is not critical, so rounding alone decides which of its eigenvalues are zero.
        measured = inertia(case.units[:, None] * H * case.units)
    leaving = lambda rule, random: _leaving(config, case, rule, float(eigenvalues[-1]), random, device)
    return {
        "case": name.partition(" ")[0],
        "value": name.partition(" ")[2],
        "seed": int(seed),
        "before": list(inertia(case.shallow.hessian().to_dense()).triple),
        "kind": certificate.kind,
        "inertia": list(measured.triple),
        "predicted": case.predicted,
        "predicted_negative": case.predicted_negative,
        "smallest": float(eigenvalues[0]),
        "largest": float(eigenvalues[-1]),
        "gradient_norm": certificate.gradient_norm,
        "output_change": abs(float(case.deeper.value() - case.shallow.value())),
        "loss": float(case.shallow.value()),
        "left": {rule: leaving(rule, random=False) for rule in RULES},
        "from_random": {rule: leaving(rule, random=True) for rule in RULES},
    }


def _leaving(config: Settings, case: Case, rule: str, largest: float, random: bool, device: torch.device) -> list[int]:
    """Return the step at which each training is below the plateau, or the number of steps where it never is."""
    make = _random_start(case.deeper) if random else _beside(case.deeper, config.offset)
    x, y = next(iter(case.deeper.batches))
    made = train_ensemble(
        lambda: make().to(device),
        "mse",
        (x.to(device), y.to(device)),
        starts=config.runs,
        steps=config.steps,
        learning_rate=1e-3 if rule == "Adam" else 0.5 / largest,
        optimizer="adam" if rule == "Adam" else "sgd",
        batch_size=min(config.batch, len(x) // 2) if rule == "SGD" else None,
        record=range(0, config.steps, EVERY),
    )
    below = made.losses.cpu() < config.fall * float(case.shallow.value())
    steps = torch.tensor(made.steps)
    return [int(steps[row].min()) if bool(row.any()) else config.steps for row in below]


def _beside(risk: EmpiricalRisk, offset: float) -> Callable[[], nn.Module]:
    """Return a maker of copies moved by a random step of a given length."""

    def make() -> nn.Module:
        model = deepcopy(risk.model)
        step = torch.randn(risk.size, dtype=torch.float64)
        moved = risk.unflatten(risk.flatten() + offset * step / step.norm())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(moved[name])
        return model

    return make


def _random_start(risk: EmpiricalRisk) -> Callable[[], nn.Module]:
    """Return a maker of networks with every tensor drawn at the size that it has at the point."""

    def make() -> nn.Module:
        model = deepcopy(risk.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * parameter.square().mean().sqrt())
        return model

    return make
