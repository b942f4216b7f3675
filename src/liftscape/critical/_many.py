"""Finding many critical points at once, and telling which of them are the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._random import as_generator
from liftscape.critical._batched import Landscape, draw_starts, landscape_of
from liftscape.critical._iterate import Progress, Search
from liftscape.critical._newton_mr import Method
from liftscape.critical._search import CriticalSearch, check_search, search_outcome
from liftscape.outcomes import LiftscapeError, TableOutcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["CriticalPoints", "find_critical_points"]


_DESCENT_STEPS = 12


@dataclass(frozen=True)
class CriticalPoints(TableOutcome):
    """Distinct critical points, and what became of every start.

    Attributes:
        points: one converged search for each distinct point, by increasing R; the one with the smallest ‖∇R‖.
        hits: how many starts reached each point.
        counts: how many starts ended with each status, all four always named.
        starts: the number of starts.
        loss_tolerance: relative difference in R above which two points are distinct.
        output_tolerance: largest difference in outputs on the data, relative to the largest output, above which two
            points are distinct.
    """

    _rows = "points"

    points: tuple[CriticalSearch, ...]
    hits: tuple[int, ...]
    counts: dict[str, int]
    starts: int
    loss_tolerance: float
    output_tolerance: float


def find_critical_points(
    risk: EmpiricalRisk,
    *,
    starts: int = 256,
    method: "Method | Sequence[Method]" = ("minimum", "newton-mr"),
    generator: torch.Generator | int | None = None,
    scale: float = 1.0,
    max_steps: int = 200,
    tolerance: float = 1e-12,
    loss_tolerance: float = 1e-8,
    output_tolerance: float = 1e-5,
    progress: Progress | None = None,
) -> CriticalPoints:
    """Search critical points from many random starts at once, and keep one of each kind.

    Distinct means a different risk or different outputs on the data: symmetric copies are one point. Starts are dealt
    to the methods in turn and searched together, vectorised with torch.func where the module allows it; those of
    methods that find saddles are first carried down by 0 to 12 steps, as Frye et al. start on descent paths. Starts
    that diverge, end gradient-flat or do not converge are counted.

    Source: Frye et al. 2020 (arXiv 2003.10397) for methods and statuses; see :func:`find_critical_point`.

    Args:
        risk: the empirical risk, M ≤ 4000 parameters, float64 for tolerances below 1e-6.
        starts: the number of starts in all.
        method: one or several methods of :func:`find_critical_point`, which take the starts in turn.
        generator: source of the starts, or its seed; same seed, same bytes.
        scale: standard deviation of starting weights times the square root of their fan-in; biases and other vectors
            are drawn about the model's own.
        max_steps: largest number of evaluations for each start.
        tolerance: ‖∇R‖ at which a point counts as critical.
        loss_tolerance: see :class:`CriticalPoints`.
        output_tolerance: see :class:`CriticalPoints`.
        progress: called with (starts that have ended, starts).

    Returns:
        The distinct points by increasing risk, with hits and counts.

    Raises:
        LiftscapeError: if a method is unknown, none or no start is asked for, or the model is too large.

    Example:
        >>> from liftscape import data, nets
        >>> risk = EmpiricalRisk(nets.mlp((3, 1, 1)), "mse", data.iris_petal_width())
        >>> found = find_critical_points(risk, starts=4, method=("minimum",))
        >>> [round(point.value, 6) for point in found.points], found.counts["converged"]
        ([0.057693], 4)
    """
    require_risk(risk, "find_critical_points")
    methods = (method,) if isinstance(method, str) else tuple(method)
    check_search(risk, methods, max_steps)
    if starts < 1 or not methods:
        raise LiftscapeError(f"starts and method must not be empty, but {starts} starts and {methods} were given.")
    generator = as_generator(generator)
    thetas = draw_starts(risk, starts, generator, scale)
    landscape = landscape_of(risk, thetas)
    found: list[CriticalSearch] = []
    for turn, chosen in enumerate(methods):
        dealt = thetas[turn :: len(methods)]
        if not len(dealt):
            continue
        if chosen != "minimum":
            dealt = _part_way_down(landscape, dealt, generator)
        search = Search(landscape, chosen, max_steps, tolerance)
        settled_before = len(found)
        report = None if progress is None else lambda done, _, before=settled_before: progress(before + done, starts)
        state = search.run(search.init(dealt), report)
        found += [search_outcome(search, state, index) for index in range(len(dealt))]
    if progress is not None:
        progress(starts, starts)
    groups = _groups(risk, found, loss_tolerance, output_tolerance)
    return CriticalPoints(
        points=tuple(min(group, key=lambda search: search.gradient_norm) for group in groups),
        hits=tuple(map(len, groups)),
        counts=dict.fromkeys(("converged", "gradient-flat", "diverging", "not converged"), 0)
        | Counter(search.status for search in found),
        starts=starts,
        loss_tolerance=loss_tolerance,
        output_tolerance=output_tolerance,
    )


def _part_way_down(
    landscape: Landscape, thetas: Float[Tensor, "K M"], generator: torch.Generator
) -> Float[Tensor, "K M"]:
    """Carry each start down by a random number of steps: at random points most of the landscape is gradient-flat."""
    descent = Search(landscape, "minimum", _DESCENT_STEPS, 0.0)
    states = [descent.init(thetas)]
    for _ in range(_DESCENT_STEPS):
        # A start that has ended rests, unless all have.
        states.append(states[-1] if descent.terminate(states[-1]) else descent.step(states[-1]))
    drawn = torch.randint(0, len(states), (len(thetas),), generator=generator)
    return torch.stack([states[step].thetas[row] for row, step in enumerate(drawn.tolist())])


def _groups(
    risk: EmpiricalRisk, found: list[CriticalSearch], loss_tolerance: float, output_tolerance: float
) -> list[list[CriticalSearch]]:
    """Group converged searches that share risk and outputs with the group's first, by increasing risk."""
    groups: list[tuple[CriticalSearch, Float[Tensor, " n_outputs"], list[CriticalSearch]]] = []
    for search in sorted((search for search in found if search.status == "converged"), key=lambda s: s.value):
        with torch.no_grad():
            outputs = torch.cat([output.reshape(-1) for output in risk.outputs(search.params)])
        for first, known, group in reversed(groups):
            if search.value - first.value > loss_tolerance * max(abs(search.value), loss_tolerance):
                continue
            if float((outputs - known).abs().max()) <= output_tolerance * (float(known.abs().max()) + output_tolerance):
                group.append(search)
                break
        else:
            groups.append((search, outputs, [search]))
    return [group for _, _, group in groups]
