"""The trace from products: Hutchinson and Hutch++, of the whole operator and of each layer's block."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._estimate import MANY, Estimate, estimate_of, student_quantile
from liftscape.curvature._layer_entries import Index, check_layers
from liftscape.curvature._probes import AnyOperator, block_columns, probe_products, rademacher
from liftscape.curvature._recorded import resumed
from liftscape.curvature._work import Progress, safe_power
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import LiftscapeError

__all__ = ["trace", "trace_by_layer"]

_FEWEST = {"hutchinson": 2, "hutch++": 4}


def trace(
    H: AnyOperator,
    *,
    method: Literal["hutchinson", "hutch++"] = "hutchinson",
    probes: int = 100,
    confidence: float = 0.99,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
    checkpoint: "Path | str | None" = None,
) -> Estimate:
    """Estimate tr H from products with random signs z.

    Hutchinson: mean of zᵀHz, of variance 2(‖H‖_F² − Σ H_ii²)/n; the interval of fewer than 100 values, which may agree
    by chance, also stands on 2·mean ‖Hz‖²/n, which bounds it, and is infinite for fewer than 5 at 95 %, 7 at 99 %.
    Hutch++: tr H = tr QᵀHQ + tr PHP, where Q is an orthonormal basis of H times a third of the probes and P = I − QQᵀ;
    the first part is exact given Q, the second is Hutchinson's mean with the last third, whose standard error is the
    whole estimate's. It is the better one where a few eigenvalues dominate, and keeps probes/3 vectors in memory; its
    interval is infinite for fewer than 13 probes at 95 %, 19 at 99 %.

    Source: Hutchinson 1990, Commun. Stat. Simul. 19; Meyer, Musco, Musco, Woodruff 2021 (arXiv 2010.09649), Alg. 1.

    Args:
        H: (M, M), any symmetric operator: ours, a SciPy LinearOperator or a matrix; of any signature.
        method: ``"hutchinson"`` or ``"hutch++"``.
        probes: products with H in all, fixed beforehand; at least 2, for Hutch++ at least 4.
        confidence: of the interval.
        generator: on the CPU; seed 0 when None.
        progress: called with (done, probes).
        checkpoint: a folder in which products are recorded, so that the work resumes there after a kill; each run
            with it takes one product more, or two where the first differs, which tell whether H is the same.

    Returns:
        The estimate with its interval; NaN where a product is not finite.

    Raises:
        LiftscapeError: if the method is unknown, the probes are too few, or the confidence is not between 0 and 1.

    Example:
        >>> H = torch.diag(torch.tensor([1.0, -3.0], dtype=torch.float64))
        >>> trace(H).value, trace(H).standard_error
        (-2.0, 0.0)
    """
    if method not in _FEWEST:
        raise LiftscapeError(f"trace knows the methods {', '.join(_FEWEST)}, but {method!r} was given.")
    if probes < _FEWEST[method]:
        raise LiftscapeError(
            f"{method} needs at least {_FEWEST[method]} probes for a standard error, but {probes} was given; give 100."
        )
    student_quantile(confidence, probes)
    draws = as_generator(generator)
    settings = {"work": f"trace, {method}", "probes": probes, "confidence": confidence}

    def estimate(operator: SymmetricOperator) -> Estimate:
        if method == "hutchinson":
            return _quadratic_forms(operator, {"": slice(None)}, probes, confidence, draws, progress)[""]
        return _hutch_plus_plus(operator, probes, confidence, draws, progress)

    return resumed(as_operator(H), checkpoint, settings, Estimate, estimate, draws)


def trace_by_layer(
    H: AnyOperator,
    layers: Mapping[str, Index],
    *,
    probes: int = 100,
    confidence: float = 0.99,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
) -> dict[str, Estimate]:
    """Estimate the trace of each diagonal block from the same probes: tr H_BB = E Σ_{i∈B} z_i (Hz)_i.

    The probes have signs everywhere, so no product is spent on one block alone, and the blocks' values add up to
    Hutchinson's estimate of the whole trace from the same generator.

    Source: derived from Hutchinson 1990: E z_i z_j = δ_ij.

    Args:
        H: (M, M), any symmetric operator.
        layers: which entries belong to each block, by name, as :func:`layers_of` returns them.
        probes: products with H in all; at least 2.
        confidence: of each interval on its own.
        generator: on the CPU; seed 0 when None.
        progress: called with (done, probes).

    Returns:
        One estimate a block, in the order given.

    Raises:
        LiftscapeError: if a block reaches beyond the operator, or as for :func:`trace`.

    Example:
        >>> H = torch.diag(torch.tensor([1.0, 2.0, -7.0], dtype=torch.float64))
        >>> {name: made.value for name, made in trace_by_layer(H, {"0": slice(0, 2), "2": slice(2, 3)}).items()}
        {'0': 3.0, '2': -7.0}
    """
    operator = as_operator(H)
    check_layers(layers, operator.size)
    student_quantile(confidence, probes)
    return _quadratic_forms(operator, layers, probes, confidence, generator, progress)


def _quadratic_forms(
    H: SymmetricOperator,
    layers: Mapping[str, Index],
    probes: int,
    confidence: float,
    generator: torch.Generator | int | None,
    progress: Progress | None,
) -> dict[str, Estimate]:
    """Return Hutchinson's estimate of every block."""
    forms: dict[str, list[Tensor]] = {name: [] for name in layers}
    sizes: dict[str, list[Tensor]] = {name: [] for name in layers}
    lengths: dict[str, list[Tensor]] = {name: [] for name in layers}
    for z, product in probe_products(H, probes, generator, progress):
        terms = z * product
        for name, index in layers.items():
            forms[name].append(_sum(terms[index]))
            sizes[name].append(_sum(terms[index].abs()))
            if probes < MANY:
                lengths[name].append(_lengths(product[index]))
    return {
        name: estimate_of(
            torch.cat(forms[name]).cpu(),
            confidence=confidence,
            products=probes,
            method="hutchinson",
            magnitude=float(torch.cat(sizes[name]).mean()),
            eps=torch.finfo(H.dtype).eps,
            lengths=torch.cat(lengths[name]).cpu() if probes < MANY else None,
        )
        for name in layers
    }


def _hutch_plus_plus(
    H: SymmetricOperator,
    probes: int,
    confidence: float,
    draws: torch.Generator,
    progress: Progress | None,
) -> Estimate:
    """Return tr QᵀHQ and Hutchinson's estimate of the rest."""
    sketched = min(max(1, probes // 3), H.size)
    rest = probes - 2 * sketched
    done = 0

    def multiply(block: Tensor) -> Tensor:
        nonlocal done
        product = H @ block
        done += block.shape[1]
        if progress is not None:
            progress(done, probes)
        return product

    image = _by_blocks(multiply, H.size, sketched, lambda count: rademacher(H, count, draws))
    Q = torch.linalg.qr(image)[0]
    columns = block_columns(H.size)
    exact = magnitude = 0.0
    for start in range(0, sketched, columns):
        part = Q[:, start : start + columns]
        terms = part * multiply(part)
        exact += float(_sum(terms).sum())
        magnitude += float(_sum(terms.abs()).sum())
    forms, sizes, lengths = [], [], []
    for start in range(0, rest, columns):
        z = rademacher(H, min(columns, rest - start), draws)
        # Twice, so that rounding leaves nothing of the span of Q.
        for _ in range(2):
            z = z - Q @ (Q.T @ z)
        product = multiply(z)
        terms = z * product
        forms.append(_sum(terms))
        sizes.append(_sum(terms.abs()))
        if rest < MANY:
            # The rest is zᵀ(PHP)z, whose variance knows nothing of what H maps into the span of Q.
            lengths.append(_lengths(product - Q @ (Q.T @ product)))
    return estimate_of(
        torch.cat(forms).cpu(),
        confidence=confidence,
        products=probes,
        method="hutch++",
        exact=exact,
        magnitude=magnitude + float(torch.cat(sizes).mean()),
        eps=torch.finfo(H.dtype).eps,
        # Where Q spans the whole space nothing random is left.
        lengths=torch.cat(lengths).cpu() if rest < MANY and sketched < H.size else None,
    )


def _by_blocks(
    multiply: Callable[[Tensor], Tensor], size: int, count: int, draw: Callable[[int], Tensor]
) -> Float[Tensor, "M count"]:
    """Return the products of drawn vectors, written into one array."""
    columns = block_columns(size)
    first = multiply(draw(min(columns, count)))
    image = first.new_empty(size, count)
    image[:, : first.shape[1]] = first
    for start in range(columns, count, columns):
        image[:, start : start + columns] = multiply(draw(min(columns, count - start)))
    return image


def _sum(terms: Float[Tensor, "M k"]) -> Float[Tensor, " k"]:
    """Return the columns' sums in float64."""
    return terms.sum(dim=0, dtype=torch.float64)


def _lengths(product: Float[Tensor, "M k"]) -> Float[Tensor, " k"]:
    """Return the columns' norms, of which no square overflows."""
    power = safe_power(product) or 1.0
    return torch.linalg.vector_norm(product * power, dim=0).double() / power
