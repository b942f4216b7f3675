"""Where training stands and which layers bend the risk, as one value."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import final

import torch

from liftscape._random import as_generator
from liftscape._sketch import bars
from liftscape.curvature import (
    Forecast,
    LayerCurvature,
    Plateau,
    Progress,
    block_curvature,
    forecast,
    layer_curvature,
    layer_curvature_products,
    layer_sizes,
    plateau_reading,
    recorded,
)
from liftscape.inspection._use import LayerUse, advise_on_folds, layer_uses
from liftscape.outcomes import NotFiniteError, TableOutcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Inspection", "inspect"]

_WHOLE = "whole network"
_VECTORS = 50
_KRYLOV = 30
_ADVICE = {
    "slope": "Go on training",
    "plateau": "Plain gradient steps gain little here; a second-order or a longer, smoothed step does",
    "flat": "Nothing within reach lowers R by 1 %; certify tells what kind of point is near",
}


@final
@dataclass(frozen=True)
class Inspection(TableOutcome):
    """One reading of a network on its data.

    Attributes:
        model: name of its class.
        parameters: how many are trained.
        samples: how many.
        dtype: of the parameters.
        plateau: where training stands.
        whole: trace and extreme eigenvalues of the Hessian.
        layers: the same of each layer's block.
        uses: how linear each activation is, and what a fold of it would cost and save.
        verdict: one sentence.
        advice: what to do next, and which layers could leave.
    """

    model: str
    parameters: int
    samples: int
    dtype: str
    plateau: Plateau
    whole: LayerCurvature
    layers: tuple[LayerCurvature, ...]
    uses: tuple[LayerUse, ...]
    verdict: str
    advice: str

    @property
    def rows(self) -> tuple[LayerCurvature, ...]:
        """The whole network, and each layer."""
        return (self.whole, *self.layers)

    def _figure(self) -> str:
        return bars([row.layer for row in self.rows], [row.trace.value for row in self.rows], "trace of the Hessian")


def inspect(
    risk: EmpiricalRisk,
    *,
    at: Sequence[str] | None = None,
    probes: int = 30,
    radius: float = 0.1,
    generator: torch.Generator | int | None = None,
    announce: Callable[[Forecast], None] | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Inspection:
    """Inspect a network on its data: where training stands, how each layer bends the risk, and what it adds.

    The reading of :func:`liftscape.curvature.plateau_reading`, with the trace and the extreme eigenvalues of the
    Hessian and of the diagonal block of each layer. Gradient steps longer than 2/λ, λ the largest eigenvalue, do not
    descend along its eigenvector in the quadratic model. Derivatives are compared with differences first, at the cost
    of a few products that the forecast does not count; see :meth:`liftscape.EmpiricalRisk.check_derivatives`.

    Source: derived; the bound 2/λ is that of gradient descent on a quadratic.

    Args:
        risk: the empirical risk.
        at: names as in ``layers_of``; all of them when None, none for an empty sequence.
        probes: of each trace.
        radius: the longest step of the reading relative to ‖θ‖.
        generator: draws probes and starts; seed 0 when None.
        announce: called once beforehand with what it is expected to cost.
        progress: called with (products done, products expected).
        checkpoint: a folder in which the products under way and the layers that are done are kept, so that the work
            resumes there after a kill; of this work alone.

    Returns:
        The reading.

    Raises:
        LoadError: if the checkpoint is of other work.
        LiftscapeError: if a layer does not exist.
        ModelError: if gradient and Hessian are not those of the risk's values.

    Example:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> model = torch.nn.Linear(1, 1, dtype=torch.float64)
        >>> _ = model.weight.data.fill_(2.0), model.bias.data.fill_(0.0)
        >>> inspect(EmpiricalRisk(model, "mse", (x, 2 * x + 0.1))).plateau.state
        'slope'
    """
    require_risk(risk, "inspect")
    draws = as_generator(generator)
    sizes = layer_sizes(risk)
    chosen = list(sizes) if at is None else list(at)
    own = layer_curvature_products(risk.size, probes=probes) + min(_KRYLOV, risk.size)
    expected = own + sum(layer_curvature_products(sizes.get(name, 0), probes=probes) for name in chosen)
    H = risk.hessian()
    # Where products are not finite the reading says so.
    with suppress(NotFiniteError):
        H.verify()
        if announce is not None:
            announce(forecast(H, expected, vectors=_VECTORS))
    done = 0

    def counted(offset: int) -> Progress:
        def advance(now: int, _: int) -> None:
            if progress is not None:
                progress(offset + now, max(expected, offset + now))

        return advance

    folder = None if checkpoint is None else Path(checkpoint)
    # A seed of its own for each part, so that one that was finished earlier draws nothing from the others.
    parts = [torch.Generator().manual_seed(seed) for seed in torch.randint(2**62, (3,), generator=draws).tolist()]
    whole = block_curvature(
        H,
        name=_WHOLE,
        probes=probes,
        generator=parts[0],
        progress=counted(done),
        checkpoint=None if folder is None else folder / "network",
    )
    done += whole.products
    found = "upper bound" if "smallest" in whole.status else "converged"
    reading = plateau_reading(
        risk,
        radius=radius,
        steps=_KRYLOV,
        lowest=(whole.lowest, whole.lowest_bound, found) if isfinite(whole.lowest) else None,
        hessian=recorded(H, None if folder is None else folder / "steps", {"work": "steps", "dimension": _KRYLOV}),
        generator=parts[1],
        progress=counted(done),
    )
    done += reading.products
    del H
    rows = layer_curvature(
        risk, at=chosen, probes=probes, generator=parts[2], progress=counted(done), checkpoint=folder
    )
    uses = layer_uses(risk)
    return Inspection(
        type(risk.model).__name__,
        risk.size,
        risk.batches.samples,
        str(risk.flatten().dtype),
        reading,
        whole,
        rows,
        uses,
        _verdict(reading, whole, rows),
        " ".join(part for part in (_advice(reading, whole), advise_on_folds(uses, reading.value)) if part),
    )


def _verdict(reading: Plateau, whole: LayerCurvature, rows: Sequence[LayerCurvature]) -> str:
    """Say where training stands, and which layer bends the risk most."""
    sentences = [reading.reading]
    finite = [row for row in rows if isfinite(row.highest)]
    if len(finite) > 1 and whole.highest > 0:
        sharpest = max(finite, key=lambda row: row.highest)
        share = sharpest.highest / whole.highest
        sentences.append(
            f"The sharpest layer is '{sharpest.layer}' with λ = {sharpest.highest:.3g}, {share:.0%} of the whole "
            f"network's {whole.highest:.3g}."
        )
    bending = [row.layer for row in finite if row.lowest + row.lowest_bound < 0]
    if bending and len(finite) > 1:
        sentences.append(
            f"R curves down inside {len(bending)} of {len(rows)} layers on their own: {_first_names(bending)}."
        )
    flat = [row.layer for row in finite if row.trace.value == row.lowest == row.highest == 0]
    if flat:
        sentences.append(f"R has no curvature at all in {_first_names(flat)}, as where the data never reach a layer.")
    return " ".join(sentences)


def _first_names(names: Sequence[str]) -> str:
    """Name at most five layers."""
    return ", ".join(f"'{name}'" for name in names[:5]) + (" and others" if len(names) > 5 else "")


def _advice(reading: Plateau, whole: LayerCurvature) -> str:
    """Say what to do."""
    if reading.state == "not finite":
        return "Go back to weights at which the loss and its derivatives are finite."
    advice = _ADVICE[reading.state]
    if whole.highest > 0:
        advice += f"; plain gradient steps are stable up to a learning rate of 2/λ = {2 / whole.highest:.2g}"
    return f"{advice}."
