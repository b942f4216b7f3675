"""Inertia and dimension of lifted critical points: predicted, then measured."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from liftscape import nets
from liftscape.activations import as_module
from liftscape.critical import Certificate, certify, plant_critical_point
from liftscape.embedding import lift, measure_gaps
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk
from liftscape.studies.degeneracy_findings import summarise
from liftscape.studies.degeneracy_settings import Settings

__all__ = ["Settings", "run_task", "summarise", "tasks"]

_KINDS: tuple[Literal["minimum", "saddle"], ...] = ("minimum", "saddle")
# Most draws of small tanh networks are too ill-conditioned to tell small eigenvalues from zeros.
_ATTEMPTS = 100
Row = Mapping[str, Any]


def tasks(config: Settings) -> list[str]:
    """Return one task for each way of lifting: activation/layers/map/extra width/rank.

    Args:
        config: the settings.

    Returns:
        Their names.
    """
    maps = [str(2 * index) for index in range(len(config.widths) - 1)]
    ways = product(config.activations, config.layers, maps, config.extra_widths, config.ranks)
    return ["/".join(map(str, way)) for way in ways]


def run_task(config: Settings, task: str, device: torch.device) -> list[dict[str, Any]]:
    """Lift planted minima and saddles in one way, and certify them before and after.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is to run; matrices of some dozens of rows are fastest on the CPU, and stay there.

    Returns:
        A row for each seed and kind.
    """
    activation, layers, at, extra, rank = task.split("/")
    rows = []
    for seed, kind in product(range(config.seeds), _KINDS):
        planted = _planted(config, at if rank == "deficient" else None, kind, seed)
        if isinstance(planted, str):
            rows.append({"seed": seed, "planted": kind, "refused": planted})
            continue
        generator = torch.Generator().manual_seed(seed)
        lifted = _lifted(*planted, activation, int(layers), at, int(extra), generator)
        rows.append({"seed": seed, "planted": kind} | lifted)
    return rows


# Planting and certifying take most of a task's time, and tasks share their points; nothing changes these.
@cache
def _planted(
    config: Settings, deficient: str | None, kind: Literal["minimum", "saddle"], seed: int
) -> tuple[EmpiricalRisk, Tensor, Certificate] | str:
    """Return the first network of a seed at which a point can be planted, with inputs, or why there is not one."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        generator = torch.Generator().manual_seed(_ATTEMPTS * seed + attempt)
        model, inputs = _network(config, deficient, generator)
        try:
            targets = plant_critical_point(model, inputs, kind=kind, generator=generator)
        except LiftscapeError as error:
            reason = str(error)
            continue
        risk = EmpiricalRisk(model, "mse", (inputs, targets))
        return risk, inputs, certify(risk)
    return reason


def _network(config: Settings, deficient: str | None, generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    """Draw a tanh network, of which one weight may have rank 1, and inputs."""
    model = nets.mlp(config.widths, "tanh", generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.0 if parameter.ndim == 1 else 2.0 / parameter.shape[1] ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        if deficient is not None:
            weight = model.get_submodule(deficient).weight
            assert isinstance(weight, Tensor)
            left, strengths, right = torch.linalg.svd(weight, full_matrices=False)
            weight.copy_(strengths[0] * torch.outer(left[:, 0], right[0]))
    size = sum(parameter.numel() for parameter in model.parameters())
    samples = -(-config.samples * size // config.widths[-1])
    return model, torch.randn(samples, config.widths[0], generator=generator, dtype=torch.float64)


def _lifted(
    risk: EmpiricalRisk,
    inputs: Tensor,
    before: Certificate,
    activation: str,
    layers: int,
    at: str,
    extra: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Certify a point and one of its lifts."""
    weight = risk.model.get_submodule(at).weight
    assert isinstance(weight, Tensor)
    width = int(torch.linalg.matrix_rank(weight.detach(), rtol=1e-10)) + extra
    embedding = lift(risk.model, inputs, at, width=[width] * layers, activation=activation, generator=generator)
    after = certify(risk.with_model(embedding.model), known_flat=embedding.manifold)
    gaps = measure_gaps(embedding, risk)
    assert before.inertia is not None
    assert after.inertia is not None
    prediction = embedding.predict_inertia(before.inertia)
    return {
        "activation": type(as_module(activation)).__name__,
        "layers": layers,
        "at": at,
        "width": width,
        "tail": embedding.sites[0].bound > 0,
        "before": list(before.inertia.triple),
        "predicted": str(prediction),
        "exact": prediction.exact,
        "measured": list(after.inertia.triple),
        "decided": before.inertia.decided and after.inertia.decided,
        "as_predicted": prediction.holds(after.inertia.triple),
        "dimension": embedding.manifold.dimension,
        "gained": after.inertia.zero - before.inertia.zero,
        "corank": embedding.corank,
        "output_gap": gaps.output,
        "gradient_norm": after.gradient_norm,
        "hessian_gap": gaps.hessian,
        "kind": after.kind,
    }
