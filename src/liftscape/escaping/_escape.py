"""The way down from a stuck network: where to insert a layer, and which of its neurons to bend."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from liftscape._random import as_generator
from liftscape.embedding import Embedding, LiftedManifold
from liftscape.embedding.parts import check_margin
from liftscape.escaping._escape_outcome import Escape, EscapingNeuron
from liftscape.escaping._escape_path import EscapePath, escape_path, stages
from liftscape.escaping._insertion import Insertion, plan_insertion
from liftscape.escaping._neuron_choice import Candidate, search_site
from liftscape.escaping._refusals import choose_sites, refuse_zero_residual, require_stuck
from liftscape.escaping._start import Layout, layout_at, lifted_layer
from liftscape.outcomes import EmbeddingError, LiftscapeError
from liftscape.risk import EmpiricalRisk, require_risk
from liftscape.sites import Site, copy_with

__all__ = ["escape"]

Progress = Callable[[int, int], None]
# A smaller share of R cannot be told from the rounding of R in its measurement.
_NOTHING = 1e-9
_CANCELS = 1e-6


def escape(
    risk: EmpiricalRisk,
    *,
    embedding: Embedding | None = None,
    at: str | Sequence[str] | None = None,
    width: int | None = None,
    neurons: int = 1,
    activation: "nn.Module | type[nn.Module] | str | None" = None,
    starts: int = 32,
    ridge: float = 0.0,
    tolerance: float = 0.01,
    margin: float = 0.25,
    memory_budget: int = 256 * 2**20,
    generator: torch.Generator | int | None = None,
    progress: Progress | None = None,
) -> Escape:
    """Insert a layer in front of a map so that R is constant along the lifted manifold, and falls past its boundary.

    In front of z = W h + b a layer is inserted whose neurons sit on affine pieces σ(t) = λt + μ. Some leave them:
    z_i changes by Σ_j β_j φ_j(h_i), φ = σ(a·h + c) − λ(a·h + c) − μ, while the others make up for their affine parts.
    With g_i = ∂R/∂z_i, V = Σ g_i φ_i and one neuron at an output with ∂²R/∂z² = hI the best β is −V/(h Σφ²), and R
    falls by exactly ‖V‖²/(2h Σφ²). Site, direction a and threshold are those of the largest predicted decrease: a by
    gradient ascent from many starts, the threshold of a kink exactly. Elsewhere R(r) ≈ R + slope·r + ½ curvature·r².

    Source: derived (theory 7); the manifold is that of Bai et al. 2022 (arXiv 2205.13283).

    Args:
        risk: the risk of a stuck network; with an embedding its loss and data.
        embedding: a lift of a stuck network. The inserted layer of a lift of a Linear by one layer is bent, and the
            path starts at the lifted network; to any other embedding a further layer is added.
        at: names of the maps that are tried; when None all Linears, Conv1ds and Conv2ds for which the width will do.
        width: of the inserted layer; the smallest that will do when None.
        neurons: how many leave at once.
        activation: as for :func:`lift`; ReLU where the network's own has no affine piece.
        starts: of the ascent.
        ridge: 0 for the largest decrease; more of it, as 0.1, for neurons that deviate on many samples with smaller
            weights, which is where training goes on well: ‖V‖² is then over Σφ² + ridge·n·Var(a·h).
        tolerance: share of R that one gradient step may gain for the network to count as stuck.
        margin: distance to the ends of the pieces at the start of the path, as a share of the range.
        memory_budget: bytes for the features and gradients that are searched, a sample of them where they are more.
        generator: source of randomness, on the CPU; seed 0 when None.
        progress: called with (sites done, sites).

    Returns:
        The network past the boundary with prediction, measurement and path; status "none" where no neuron is predicted
        to lower R by 1e-9 of it, as where samples with conflicting labels share their inputs.

    Raises:
        NotStuckError: if one gradient step would lower R (it says by how much), or the residual is zero.
        LiftscapeError: if there is no risk, a number is out of range, or `at`, `width` or `activation` is given for a
            layer that is already lifted.
        SiteError: if no layer can be inserted.
        EmbeddingError: if the layer is too narrow: a neuron on a piece with λ ≠ 0 needs one spare alive neuron.
        ActivationError: if the activation has no affine piece or tail with λ ≠ 0.

    Example:
        >>> x = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
        >>> line = nn.Sequential(nn.Linear(1, 1)).double()
        >>> _ = line[0].weight.data.fill_(0.0), line[0].bias.data.fill_(float(x.abs().mean()))
        >>> found = escape(EmpiricalRisk(line, "mse", (x, x.abs())))
        >>> found.status, found.exact, abs(found.decrease / found.predicted_decrease - 1) < 1e-9
        ('found', True, True)
    """
    stuck, lifted = _starting_point(require_risk(risk, "escape"), embedding)
    if lifted is not None:
        _refuse_choices(lifted, at=at, width=width, activation=activation)
    _check_numbers(neurons, starts, min(tolerance, ridge), margin)
    draws = as_generator(generator)
    sites = choose_sites(stuck, lifted.chart.site if lifted is not None else at)  # pyright: ignore[reportAttributeAccessIssue]
    named = at is not None or lifted is not None
    layouts = _layouts(sites, named, lambda site: layout_at(stuck, site, neurons, width, activation, lifted))
    refuse_zero_residual(stuck, sites)
    require_stuck(stuck, tolerance)
    candidates = []
    for done, layout in enumerate(layouts, 1):
        candidates.append(search_site(stuck, layout, starts, ridge, memory_budget, draws))
        if progress is not None:
            progress(done, len(layouts))
    best = max(candidates, key=lambda each: each.prediction.decrease)
    value = float(stuck.value())
    if best.prediction.decrease < _NOTHING * abs(value):
        return _none(stuck, candidates, best, value)
    return _found(stuck, best, value, margin, draws, lifted)


def _layouts(sites: Sequence[Site], named: bool, layout: Callable[[Site], Layout]) -> list[Layout]:
    """Return the layout at each site; where none was named, those for which the width is too small are left out."""
    found: list[Layout] = []
    refusals: list[EmbeddingError] = []
    for site in sites:
        try:
            found.append(layout(site))
        except EmbeddingError as error:
            refusals.append(error)
    if refusals and (named or not found):
        raise refusals[0]
    return found


def _starting_point(risk: EmpiricalRisk, embedding: Embedding | None) -> tuple[EmpiricalRisk, LiftedManifold | None]:
    """Return the risk of the stuck network, and the manifold of the lift whose layer is bent, if any."""
    if embedding is None:
        return risk, None
    if not isinstance(embedding, Embedding):
        raise LiftscapeError(
            f"embedding must be an Embedding, as lift returns, but {type(embedding).__name__} was given."
        )
    lifted = lifted_layer(embedding)
    return risk.with_model(embedding.model if lifted is None else lifted.base), lifted


def _refuse_choices(lifted: LiftedManifold, **choices: object) -> None:
    """Raise if the caller chose what a lifted layer has already settled."""
    if chosen := [name for name, choice in choices.items() if choice is not None]:
        raise LiftscapeError(
            f"the layer to be bent is the one lifted at '{lifted.chart.site}', whose width and activation are given; "  # pyright: ignore[reportAttributeAccessIssue]
            f"leave {' and '.join(chosen)} out, or give escape(risk.with_model(embedding.model), …) to insert another."
        )


def _check_numbers(neurons: int, starts: int, least: float, margin: float) -> None:
    """Raise unless the numbers make sense."""
    if neurons < 1 or starts < 1 or not least >= 0:
        raise LiftscapeError(
            f"neurons and starts must be at least 1, tolerance and ridge at least 0, but {neurons}, {starts} and "
            f"{least} were given."
        )
    check_margin(margin)


def _found(
    stuck: EmpiricalRisk,
    best: Candidate,
    value: float,
    margin: float,
    draws: torch.Generator,
    lifted: LiftedManifold | None,
) -> Escape:
    """Build the path and the network at its end, and measure R there."""
    layout, prediction = best.layout, best.prediction
    name, base = layout.site.name, copy_with(stuck.model, {})
    a = torch.stack([neuron.direction for neuron in best.neurons]).cpu()
    c = torch.tensor([neuron.bias for neuron in best.neurons], dtype=torch.float64)
    corners = stages(layout.crossing, a, c, best.low, best.high, margin)

    def plan(source: torch.Generator) -> Insertion:
        return plan_insertion(
            base,
            name,
            stuck.batches,
            layout.sigma,
            layout.pieces,
            layout.leaving,
            a,
            prediction.out_weights,
            source,
            margin,
        )

    redraw = lambda source: plan(source or draws).network(base, name, corners[0])
    path = escape_path(base, name, plan(draws), corners, stuck.batches, redraw, lifted)
    model = path(1.0)
    decrease = value - float(stuck.with_model(model).value())
    escaping = tuple(
        EscapingNeuron(tuple(own.tolist()), float(bias), layout.crossing.piece, tuple(beta.tolist()))
        for own, bias, beta in zip(a, c, prediction.out_weights, strict=True)
    )
    many = "1 neuron leaves its piece" if len(escaping) == 1 else f"{len(escaping)} neurons leave their piece"
    how = "exactly" if prediction.exact else "to second order"
    reason = (
        f"In front of '{name}' a layer of {len(layout.pieces)} neurons, of which {many}, is predicted ({how}) to lower "
        f"R = {value:.6g} by {prediction.decrease:.3g}; it lowers it by {decrease:.3g}."
    )
    return _outcome(best, model, value, decrease, path, escaping, reason)


def _none(stuck: EmpiricalRisk, candidates: list[Candidate], best: Candidate, value: float) -> Escape:
    """Say why there is no way down."""
    places = ", ".join(f"'{each.layout.site.name}'" for each in candidates)
    if all(each.share <= _CANCELS for each in candidates):
        reason = (
            f"No half-space separates what is left at {places}: the pulls ∂R/∂z of all samples that share their "
            "features add up to zero, as where equal inputs have conflicting labels; no layer there can lower R."
        )
    else:
        reason = (
            f"The best neuron found at {places} is predicted to lower R = {value:.6g} by "
            f"{best.prediction.decrease:.3g}, less than {_NOTHING:g} of it; try more starts or another site."
        )
    return _outcome(best, copy_with(stuck.model, {}), value, 0.0, None, (), reason)


def _outcome(
    best: Candidate,
    model: nn.Module,
    value: float,
    decrease: float,
    path: EscapePath | None,
    escaping: tuple[EscapingNeuron, ...],
    reason: str,
) -> Escape:
    """Return what was found; without a path nothing is predicted."""
    layout, prediction = best.layout, best.prediction
    found = path is not None
    return Escape(
        status="found" if found else "none",
        model=model,
        predicted_decrease=prediction.decrease if found else 0.0,
        decrease=decrease,
        path=path,
        site=layout.site.name,
        activation=str(layout.sigma),
        width=len(layout.pieces),
        rank=layout.rank,
        neurons=escaping,
        value=value,
        slope=prediction.slope if found else 0.0,
        curvature=prediction.curvature if found else 0.0,
        exact=prediction.exact,
        guaranteed_decrease=prediction.guaranteed if found else 0.0,
        rows=best.rows,
        searched=best.searched,
        reason=reason,
    )
