"""The Fisher information: with the targets of the data, or with targets drawn from the model."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._output_forms import FormOfBatch, LossAtOutputs, OutputForm, OutputOperator, rows_of
from liftscape.outcomes import DataError, ModelError
from liftscape.risk import EmpiricalRisk, require_risk
from liftscape.samples import batch_size, loss_name

__all__ = ["fisher"]


def fisher(
    risk: EmpiricalRisk,
    *,
    method: Literal["empirical", "monte-carlo"] = "empirical",
    samples: int = 1,
    generator: torch.Generator | int | None = None,
    params: Mapping[str, Tensor] | None = None,
    at: str | Sequence[str] | None = None,
    memory_budget: int | None = None,
) -> OutputOperator:
    """Return the Fisher information F = (1/n) Σ_i E[g_i g_iᵀ] as an operator, g_i = ∇_θ ℓ(f_θ(x_i), y_i).

    Empirical: y_i are the targets of the data. Monte-Carlo: the mean over targets drawn from the model, whose
    expectation is the Gauss-Newton matrix; for cross-entropy from the categorical distribution of the logits (with
    several positions a sample, from each on its own), for torch's mean squared error over D outputs from the Gaussian
    with mean f_θ(x_i) and variance D/2, under which the loss is the negative log-likelihood. The targets are drawn once
    for an operator, which is thus a fixed matrix. The loss must be a mean over the samples.

    Source: Kunstner et al. 2019 (arXiv 1905.12558), sections 2 and 3, for the two kinds.

    Args:
        risk: the empirical risk; its outputs have the samples in their first axis.
        method: "empirical" or "monte-carlo".
        samples: number of targets drawn for each sample.
        generator: source of the targets; seed 0 when None.
        params: θ by name; the model's own when None.
        at: the name of a module or parameter, or several; all parameters when None.
        memory_budget: as for :meth:`liftscape.EmpiricalRisk.hessian`.

    Returns:
        The operator, (M, M), positive semi-definite.

    Raises:
        ModelError: if the kind or a name is unknown, or the loss is not one that targets can be drawn for.
        DataError: by a Monte-Carlo product, if the batches come in another order than before.

    Example:
        >>> linear = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> _ = linear.weight.data.fill_(1.0)
        >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        >>> risk = EmpiricalRisk(linear, "mse", (x, torch.zeros(2, 1, dtype=torch.float64)))
        >>> fisher(risk).to_dense().tolist()
        [[34.0]]
    """
    require_risk(risk, "fisher")
    if method not in {"empirical", "monte-carlo"}:
        raise ModelError(f"method must be 'empirical' or 'monte-carlo', but {method!r} was given.")
    point = risk.point(params, at=at)
    plan = risk.plan(point, memory_budget)
    if method == "empirical":
        return OutputOperator(point, lambda: _empirical, plan)
    name = loss_name(risk.loss)
    if name is None:
        raise ModelError(
            "a Monte-Carlo Fisher needs the loss 'mse' or 'cross_entropy', for which targets can be drawn from the "
            "model, but a callable was given; ask for method='empirical' or use gauss_newton."
        )
    if samples < 1:
        raise ModelError(f"samples must be at least 1, but {samples} was given.")
    generator = as_generator(generator)
    # Graphs are built again for each product, and must meet the same targets.
    seed = int(torch.randint(2**62, (), generator=generator))
    seen: list[Tensor] = []
    return OutputOperator(point, lambda: _monte_carlo(name, samples, torch.Generator().manual_seed(seed), seen), plan)


def _empirical(at: LossAtOutputs) -> OutputForm:
    """Return C = (1/n) Σ_i c_i c_iᵀ, c_i = ∂ℓ_i/∂z_i, block by block."""
    n = batch_size(at.batch[0])
    # The mean over the batch divides each sample's slope by n.
    slopes = [rows_of(part * n, n, "an empirical Fisher") for part in at.gradient()[0]]
    return lambda rows: _outer(slopes, rows, 1 / n)


def _monte_carlo(name: str, samples: int, generator: torch.Generator, seen: list[Tensor]) -> FormOfBatch:
    """Return the maker of C = (1/nS) Σ_i Σ_s c_is c_isᵀ, which must see the outputs that the passes before it saw."""
    places = itertools.count()

    def of_batch(at: LossAtOutputs) -> OutputForm:
        n = batch_size(at.batch[0])
        (output,) = at.outputs
        rows_of(output, n, "a Monte-Carlo Fisher")
        _require_order(output.detach(), next(places), seen)
        draw = _gaussian if name == "mse" else _categorical
        drawn = [draw(output.detach(), n, generator) for _ in range(samples)]
        # Positions of one sample are drawn independently, and their slopes belong to distributions of their own.
        units = n if name == "mse" else output.numel() // output.shape[1]

        def by_unit(part: Tensor) -> Tensor:
            return part.reshape(n, -1) if name == "mse" else part.movedim(1, -1).reshape(units, -1)

        slopes = torch.stack([by_unit(at.gradient(targets)[0][0]) * units for targets in drawn])

        def form(rows: Sequence[Tensor]) -> Sequence[Tensor]:
            dots = (slopes * by_unit(rows[0])).sum(dim=-1, keepdim=True)
            total = (slopes * dots).sum(dim=0) / (units * samples)
            return [total.view_as(output) if name == "mse" else _positions(total, output)]

        return form

    return of_batch


def _require_order(output: Tensor, place: int, seen: list[Tensor]) -> None:
    """Raise unless a batch's outputs are those of the pass before, in few numbers that any other order would change."""
    flat = output.reshape(-1).double()
    mark = torch.stack([flat[0], flat[-1], flat.sum()])
    if place == len(seen):
        seen.append(mark)
    elif not torch.allclose(mark, seen[place], rtol=1e-4, atol=1e-6 * float(flat.abs().max()), equal_nan=True):
        raise DataError(
            "the batches come in another order than in the product before, so that targets drawn once would meet other "
            "samples; give a loader with shuffle=False."
        )


def _positions(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows of classes, one a position, in the shape of logits (n, classes, *positions)."""
    return rows.view(like.movedim(1, -1).shape).movedim(-1, 1)


def _outer(slopes: Sequence[Tensor], rows: Sequence[Tensor], scale: float) -> list[Tensor]:
    """Return scale · c_i (c_iᵀ w_i) for each sample i, over all tensors together."""
    flat = [row.reshape(slope.shape) for row, slope in zip(rows, slopes, strict=True)]
    dots = torch.stack([(slope * row).sum(dim=1) for slope, row in zip(slopes, flat, strict=True)]).sum(dim=0)
    parts = [scale * slope * dots.unsqueeze(1) for slope in slopes]
    return [part.view(row.shape) for part, row in zip(parts, rows, strict=True)]


def _gaussian(output: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw targets around the outputs with variance D/2, D the outputs of a sample."""
    noise = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    return output + noise * (output.numel() / n / 2) ** 0.5


def _categorical(output: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw a class for each position by inverting the distribution of the logits."""
    del n
    bounds = output.double().softmax(dim=1).cumsum(dim=1)
    shape = (output.shape[0], 1, *output.shape[2:])
    threshold = torch.rand(shape, generator=generator, dtype=torch.float64).to(bounds.device)
    # The last bound is one up to rounding.
    return (bounds[:, :-1] < threshold).sum(dim=1)
