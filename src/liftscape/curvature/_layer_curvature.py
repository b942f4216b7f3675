"""The curvature of each layer on its own: trace and extreme eigenvalues of the Hessian's diagonal blocks."""

from collections.abc import Sequence
from pathlib import Path

import torch

from liftscape._random import as_generator
from liftscape.curvature._block_curvature import LayerCurvature, block_curvature, layer_curvature_products
from liftscape.curvature._layer_entries import layers_of, names_by_layer
from liftscape.curvature._work import Progress
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["layer_curvature", "layer_sizes"]


def layer_curvature(
    risk: EmpiricalRisk,
    *,
    at: Sequence[str] | None = None,
    probes: int = 30,
    tolerance: float = 1e-3,
    confidence: float = 0.99,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> tuple[LayerCurvature, ...]:
    """Return trace and extreme eigenvalues of each layer's block H_BB = ∂²R/∂θ_B², all other parameters held fixed.

    Blocks of up to 128 parameters are diagonalised; of larger ones the trace is Hutchinson's and the eigenvalues are
    Lanczos' with their residual bounds. By Cauchy's interlacing a block's eigenvalues lie between the extreme ones of
    H: a negative one proves that R curves down inside that layer alone.

    Source: Hutchinson 1990; Wu and Simon 2000; Cauchy's interlacing theorem.

    Args:
        risk: the empirical risk.
        at: names as in ``layers_of``; all of them when None.
        probes: of each trace.
        tolerance: largest residual of an eigenvalue relative to the largest |eigenvalue| of its block.
        confidence: of the traces' intervals.
        generator: draws probes and starts; seed 0 when None.
        progress: called with (products done, products expected).
        checkpoint: a folder in which each layer's products, then its entry, are kept, so that the work resumes there.

    Returns:
        One entry for each layer, in the order of the parameters.

    Raises:
        LiftscapeError: if a layer does not exist.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1, dtype=torch.float64), "mse", (x, x))
        >>> [(row.layer, row.parameters, row.trace.value, row.highest) for row in layer_curvature(risk)]
        [('weight', 1, 2.0, 2.0), ('bias', 1, 2.0, 2.0)]
    """
    require_risk(risk, "layer_curvature")
    known, names = layer_sizes(risk), names_by_layer(risk.parameters)
    unknown = [name for name in at or () if name not in known]
    if unknown:
        raise LiftscapeError(f"there is no layer {unknown[0]!r}; the layers are {', '.join(known)}.")
    draws = as_generator(generator)
    chosen = list(known) if at is None else list(at)
    expected = sum(layer_curvature_products(known[name], probes=probes) for name in chosen)
    # A seed of its own for each layer, so that one that was finished earlier draws nothing from the others.
    seeds = torch.randint(2**62, (len(chosen),), generator=draws).tolist()
    rows: list[LayerCurvature] = []
    for place, (name, seed) in enumerate(zip(chosen, seeds, strict=True)):
        before = sum(row.products for row in rows)

        def advance(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, max(expected, before + done))

        rows.append(
            block_curvature(
                risk.hessian(at=names[name]),
                name=name,
                probes=probes,
                tolerance=tolerance,
                confidence=confidence,
                generator=torch.Generator().manual_seed(seed),
                progress=advance,
                checkpoint=None if checkpoint is None else Path(checkpoint) / f"layer-{place}",
            )
        )
    return tuple(rows)


def layer_sizes(risk: EmpiricalRisk) -> dict[str, int]:
    """Return the number of parameters of each layer.

    Source: none.

    Args:
        risk: the empirical risk.

    Returns:
        Sizes by the names of ``layers_of``.

    Example:
        >>> x = torch.zeros(1, 2)
        >>> layer_sizes(EmpiricalRisk(torch.nn.Sequential(torch.nn.Linear(2, 2)), "mse", (x, x)))
        {'0': 6}
    """
    require_risk(risk, "layer_sizes")
    layers = layers_of(risk.parameters)
    return {
        name: index.stop - index.start if isinstance(index, slice) else len(index) for name, index in layers.items()
    }
