"""Public diagnostics: each law of the house as a table of gaps and the values that rounding allows."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import torch
from torch import Tensor

from liftscape._random import as_generator
from liftscape.embedding import Embedding, EmbeddingGaps, measure_gaps
from liftscape.folding import Collapse, Fold, FoldSearch, Trim, output_gap, search_difference
from liftscape.functional import require_module
from liftscape.outcomes import LiftscapeError, Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["Check", "CheckRow", "check_embedding", "check_fold", "check_gradient", "check_hessian"]

_DIFFERENCE, _HESSIAN, _OUTPUT, _LOCAL_FORM = 1e-6, 1e-10, 1e-12, 1e-10
_CRITICAL = 1e-9
# Of eps: what a few layers add up to where other sums give the same.
_OUTPUT_ULPS = 100


@dataclass(frozen=True)
class CheckRow(Outcome):
    """One law.

    Attributes:
        law: what should vanish.
        gap: the relative gap that was measured.
        expected: the largest gap that rounding explains.
    """

    law: str
    gap: float
    expected: float

    @property
    def holds(self) -> bool:
        """Whether the gap is as expected; NaN is not."""
        return self.gap <= self.expected


@dataclass(frozen=True)
class Check(TableOutcome):
    """A table of laws; it is truthy if all of them hold.

    Attributes:
        rows: one for each law.
    """

    rows: tuple[CheckRow, ...]

    def __bool__(self) -> bool:
        """Return whether all laws hold."""
        return all(row.holds for row in self.rows)

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [f"{'law':<44} {'gap':>9} {'expected':>9}"]
        lines += [f"{row.law:<44} {row.gap:9.1e} {row.expected:9.0e}{'' if row.holds else '  ✗'}" for row in self.rows]
        return "\n".join(lines)


def check_gradient(
    risk: EmpiricalRisk, *, params: Mapping[str, Tensor] | None = None, generator: torch.Generator | int | None = None
) -> Check:
    """Compare ∇R·v with central differences of R along random directions v, and print the table.

    Args:
        risk: the empirical risk, float64.
        params: θ by name; the model's own when None.
        generator: source of the directions; seed 0 when None.

    Returns:
        The table.

    Example:
        >>> from liftscape import data, nets
        >>> bool(check_gradient(EmpiricalRisk(nets.mlp((3, 2, 1)), "mse", data.iris_petal_width())))
        law ...
        True
    """
    require_risk(risk, "check_gradient")
    theta, directions, step = _probe(risk, params, generator)
    gradient = risk.gradient(risk.unflatten(theta))
    at = lambda vector: float(risk.value(risk.unflatten(vector)))
    gaps = [
        abs((at(theta + step * v) - at(theta - step * v)) / (2 * step) - float(gradient @ v))
        / (1 + float(gradient.norm()))
        for v in directions
    ]
    return _print(CheckRow("∇R·v = central difference of R", max(gaps), _DIFFERENCE))


def check_hessian(
    risk: EmpiricalRisk, *, params: Mapping[str, Tensor] | None = None, generator: torch.Generator | int | None = None
) -> Check:
    """Compare Hv with central differences of ∇R, and uᵀHv with vᵀHu, and print the table.

    Args:
        risk: the empirical risk, float64.
        params: θ by name; the model's own when None.
        generator: source of the directions; seed 0 when None.

    Returns:
        The table.

    Example:
        >>> from liftscape import data, nets
        >>> bool(check_hessian(EmpiricalRisk(nets.mlp((3, 2, 1)), "mse", data.iris_petal_width())))
        law ...
        True
    """
    require_risk(risk, "check_hessian")
    theta, directions, step = _probe(risk, params, generator)
    products = risk.hessian(risk.unflatten(theta)) @ directions.T
    at = lambda vector: risk.gradient(risk.unflatten(vector))
    scale = float(products.norm(dim=0).max()) + torch.finfo(products.dtype).tiny
    differences = torch.stack([(at(theta + step * v) - at(theta - step * v)) / (2 * step) for v in directions], dim=1)
    form = directions @ products
    return _print(
        CheckRow(
            "Hv = central difference of ∇R", float((differences - products).norm(dim=0).max()) / scale, _DIFFERENCE
        ),
        CheckRow("uᵀHv = vᵀHu", float((form - form.T).abs().max()) / scale, _HESSIAN),
    )


def check_embedding(embedding: Embedding, risk: EmpiricalRisk) -> Check:
    """Measure outputs kept, g′ = Jᵀg and, at a critical point of the smaller network, H′ = JᵀHJ; print the table.

    Source: Bai et al. 2022 (arXiv 2205.13283), output and criticality preserving; H′ = JᵀHJ is derived.

    Args:
        embedding: of the risk's network.
        risk: of the smaller network, float64; O(M′²) memory.

    Returns:
        The table; the last law is left out where ‖∇R‖ > 1e-9, and for width embeddings, whose fibre has curvature.

    Example:
        >>> from liftscape import nets
        >>> from liftscape.embedding import lift
        >>> net, x = nets.mlp((2, 3, 1)), torch.randn(20, 2, dtype=torch.float64)
        >>> risk = EmpiricalRisk(net, "mse", (x, net(x).detach()))
        >>> bool(check_embedding(lift(net, x, "2"), risk))
        law ...
        True
    """
    gaps: EmbeddingGaps = measure_gaps(embedding, risk)
    rows = [CheckRow("outputs kept on S", gaps.output, _OUTPUT), CheckRow("g' = Jᵀg", gaps.gradient, _OUTPUT)]
    if embedding.lifted is not None and gaps.base_gradient_norm <= _CRITICAL:
        rows.append(CheckRow("H' = JᵀHJ", gaps.hessian, _LOCAL_FORM))
    return _print(*rows)


def check_fold(
    fold: "Fold | FoldSearch | Trim | Collapse | torch.nn.Module",
    inputs: Any,
    original: torch.nn.Module,
    *,
    held_out: Any = None,
    search: bool = False,
    generator: torch.Generator | int | None = None,
) -> Check:
    """Measure the largest difference of outputs between a network and its fold, and print the table.

    Gaps are relative to the largest output; 1e-10 is expected in float64, 100 eps in shorter dtypes.

    Args:
        fold: what a fold, a search, a trim or a collapse returned, or its network.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches.
        original: the network that was folded.
        held_out: further data.
        search: whether inputs are also searched in the box of S by gradient ascent; the worst one is printed.
        generator: of the search; seed 0 when None.

    Returns:
        The table.

    Raises:
        LiftscapeError: if there are no inputs, a network is none or on the meta device, or inputs that are to be
            searched are no tensors of floating-point numbers.

    Example:
        >>> from liftscape.folding import fold
        >>> net, x = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).double(), torch.randn(9, 2)
        >>> bool(check_fold(fold(net, x.double()), x.double(), net))
        law ...
        True
    """
    tiny = torch.finfo(torch.float64).tiny
    rounding = _rounding_of(original)
    folded = fold.model if isinstance(fold, (Fold, FoldSearch, Trim, Collapse)) else fold
    gap, scale = output_gap(original, folded, inputs)
    rows = [CheckRow("outputs kept", gap / max(scale, tiny), rounding)]
    if held_out is not None:
        gap, scale = output_gap(original, folded, held_out)
        rows.append(CheckRow("outputs kept on held-out data", gap / max(scale, tiny), rounding))
    if not search:
        return _print(*rows)
    found = search_difference(original, folded, inputs, generator=generator)
    check = _print(*rows, CheckRow("outputs kept in the box of the data", found.gap, rounding))
    if rows[0].holds and not check.rows[-1].holds:
        entries = ", ".join(f"{entry:.4g}" for entry in found.example.flatten()[:8].tolist())
        more = ", …" if found.example.numel() > 8 else ""
        print(f"Exact on the data, but not in their box: at ({entries}{more}) outputs differ by {found.gap:.1e}.")
    return check


def _rounding_of(model: torch.nn.Module) -> float:
    """Return the relative gap of outputs that the rounding of a network's dtype explains."""
    dtypes = [tensor.dtype for tensor in require_module(model).parameters() if tensor.is_floating_point()]
    return max([_LOCAL_FORM, *(_OUTPUT_ULPS * torch.finfo(dtype).eps for dtype in dtypes)])


def _probe(
    risk: EmpiricalRisk, params: Mapping[str, Tensor] | None, generator: torch.Generator | int | None
) -> tuple[Tensor, Tensor, float]:
    """Return θ, five random unit directions as rows, and the step that balances rounding and curvature."""
    theta = risk.flatten(params)
    if theta.dtype != torch.float64:
        raise LiftscapeError(
            f"differences need float64, but the parameters are {theta.dtype}; convert model and data with .double()."
        )
    draws = as_generator(generator)
    directions = torch.randn(5, len(theta), generator=draws, dtype=torch.float64).to(theta.device)
    step = float(torch.finfo(torch.float64).eps ** (1 / 3) * (1 + theta.abs().max()))
    return theta, directions / directions.norm(dim=1, keepdim=True), step


def _print(*rows: CheckRow, file: TextIO | None = None) -> Check:
    """Print a table and return it."""
    check = Check(rows)
    print(check, file=file or sys.stdout)
    return check
