"""Finding one critical point."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10, nan
from typing import Literal

import torch
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape._sketch import curve
from liftscape.critical._batched import SequentialLandscape, draw_starts
from liftscape.critical._criticality import contraction
from liftscape.critical._iterate import End, Progress, Search, SearchState
from liftscape.critical._newton_mr import METHODS, Method
from liftscape.critical._spectrum import spectrum_at
from liftscape.functional import copy_model, untouched
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk

__all__ = ["CriticalSearch", "SearchStep", "Status", "find_critical_point"]

Status = Literal["converged", "gradient-flat", "diverging", "not converged"]
LARGEST = 4000
# Below this share of the largest curvature the smallest may be one that vanishes at infinity.
_DOUBTED = 1e-8
# Towards infinity Newton's steps keep their length.
_LONG = 1e-2

_STATUS: dict[End, Status] = {
    End.CONVERGED: "converged",
    End.FLAT: "gradient-flat",
    End.DIVERGING: "diverging",
    End.STALLED: "not converged",
    End.EXHAUSTED: "not converged",
    End.UNSETTLED: "not converged",
}
_REASON = {
    End.CONVERGED: "‖∇R‖ is within the tolerance and Newton's steps have died out",
    End.FLAT: "the gradient lies in the Hessian's kernel (r > 0.9) and is not small",
    End.DIVERGING: "the parameters run to infinity while the gradient falls only geometrically, or are not finite",
    End.STALLED: "no step along the method's direction lowers its merit function any more",
    End.EXHAUSTED: "the steps were used up before ‖∇R‖ came within the tolerance",
    End.UNSETTLED: "‖∇R‖ is within the tolerance, but Newton's steps do not contract, as near a degenerate point",
}
_ADVICE = {
    End.CONVERGED: "certify says what kind of point it is, and whether a sample sits on a kink.",
    End.FLAT: "start elsewhere, or use method='minimum', which descends through gradient-flat regions.",
    End.DIVERGING: "the infimum may lie at infinity: start elsewhere, or give noisier data, whose minima are finite.",
    End.STALLED: "start elsewhere; with float32 parameters convert the model to float64; a kink may lie at the point.",
    End.EXHAUSTED: "raise max_steps, or start from the params that were reached.",
    End.UNSETTLED: "follow the curve on which the gradient falls, or start elsewhere.",
}


@dataclass(frozen=True)
class SearchStep:
    """One evaluation of a search.

    Attributes:
        value: R.
        gradient_norm: ‖∇R‖.
        step_length: length of the step taken from here.
    """

    value: float
    gradient_norm: float
    step_length: float


@dataclass(frozen=True)
class CriticalSearch(Outcome):
    """What a search for a critical point reached.

    Attributes:
        status: "converged" (‖∇R‖ ≤ tolerance and Newton's steps contract at finite parameters), "gradient-flat",
            "diverging" or "not converged".
        model: a copy of the caller's model at the point.
        params: θ by name.
        value: R there.
        gradient_norm: ‖∇R‖ there.
        flatness: Frye's r = ‖Hp+g‖ / (‖H‖_F ‖p‖ + ‖g‖); a gradient that is not small with r > 0.9 is gradient-flat.
        history: R, ‖∇R‖ and step length at each evaluation.
        method: the method used.
        tolerance: ‖∇R‖ at which a point counts as converged.
        dtype: dtype of the parameters.
        reason: why the search ended.
        advice: what to do next.
    """

    status: Status
    model: nn.Module
    params: dict[str, Tensor]
    value: float
    gradient_norm: float
    flatness: float
    history: tuple[SearchStep, ...]
    method: str
    tolerance: float
    dtype: str
    reason: str
    advice: str

    def _figure(self) -> str:
        norms = [step.gradient_norm for step in self.history]
        return curve(
            [float(step) for step in range(len(norms))],
            [log10(norm) if norm > 0 else nan for norm in norms],
            "log₁₀ ‖∇R‖",
        )


def find_critical_point(
    risk: EmpiricalRisk,
    *,
    method: Method = "newton-mr",
    start: Mapping[str, Tensor] | Literal["random"] | None = None,
    generator: torch.Generator | int | None = None,
    max_steps: int = 500,
    tolerance: float = 1e-12,
    progress: Progress | None = None,
) -> CriticalSearch:
    """Search one critical point ∇R(θ) = 0 from one start, and polish it as far as rounding allows.

    "newton-mr": p = −H⁺g with a line search on ‖g‖², damped where full steps fail; finds points of any index.
    "minimum": saddle-free Newton with a line search on R, leaving strict saddles, then Newton's steps.
    "gradient-norm": Levenberg-Marquardt on ‖g‖².
    A converged point need not be critical where the network has kinks: only a certificate decides. Each step takes a
    dense Hessian. The caller's model is untouched.

    Source: Frye et al. 2020 (arXiv 2003.10397); Roosta et al. 2018 (arXiv 1810.00303); Dauphin et al. 2014 (arXiv
    1406.2572).

    Args:
        risk: the empirical risk, M ≤ 4000 parameters, float64 for tolerances below 1e-6.
        method: "newton-mr", "minimum" or "gradient-norm".
        start: θ by name; "random" draws one from the generator; the model's own parameters when None.
        generator: source of a random start; seed 0 when None.
        max_steps: largest number of evaluations.
        tolerance: ‖∇R‖ at which the point counts as critical.
        progress: called with (steps done, max_steps).

    Returns:
        The point with its status, reason and advice.

    Raises:
        LiftscapeError: if the method is unknown, the model too large, or max_steps not positive.
        ModelError: if the start does not fit the model.

    Example:
        >>> from liftscape import data, nets
        >>> risk = EmpiricalRisk(nets.mlp((3, 1, 1)), "mse", data.iris_petal_width())
        >>> search = find_critical_point(risk, method="minimum")
        >>> search.status, round(search.value, 6), search.gradient_norm <= 1e-12
        ('converged', 0.057693, True)
    """
    require_risk(risk, "find_critical_point")
    check_search(risk, (method,), max_steps)
    drawn = lambda: draw_starts(risk, 1, as_generator(generator), 1.0)[0]
    theta = drawn() if start == "random" else risk.flatten(start)  # pyright: ignore[reportArgumentType]
    search = Search(SequentialLandscape(risk), method, max_steps, tolerance)
    steps = None if progress is None else _StepCounter(progress, max_steps)
    # A module may count its calls.
    with untouched(risk.model):
        return search_outcome(search, search.run(search.init(theta[None]), steps), 0)


class _StepCounter:
    """Progress of one search, in steps."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, settled: int, count: int) -> None:
        """Report one more step, or all of them when the point has ended."""
        self._done = self._total if settled == count else self._done + 1
        self._progress(self._done, self._total)


def check_search(risk: EmpiricalRisk, methods: tuple[str, ...], max_steps: int) -> None:
    """Raise unless the search can be run."""
    for method in methods:
        if method not in METHODS:
            raise LiftscapeError(f"method must be one of {', '.join(METHODS)}, but {method!r} was given.")
    if risk.size > LARGEST:
        raise LiftscapeError(
            f"the search takes a dense Hessian at each step, but {type(risk.model).__name__} has {risk.size} "
            f"parameters, more than {LARGEST}; freeze some of them or search in a smaller network."
        )
    if max_steps < 1:
        raise LiftscapeError(f"max_steps must be at least 1, but {max_steps} was given.")


def search_outcome(search: Search, state: SearchState, index: int) -> CriticalSearch:
    """Return one point of a finished state as an outcome, evaluated anew by double backward."""
    risk = search.landscape.risk
    params = {name: tensor.clone() for name, tensor in risk.unflatten(state.thetas[index]).items()}
    gradient_norm, end = float(risk.gradient(params).norm()), End(int(state.ends[index]))
    if end is End.CONVERGED:
        end = _settled(risk.at(params)) if gradient_norm <= search.tolerance else End.STALLED
    track = state.history[:, index]
    return CriticalSearch(
        status=_STATUS[end],
        model=_model_at(risk.model, params),
        params=params,
        value=float(risk.value(params)),
        gradient_norm=gradient_norm,
        flatness=float(state.flatness[index]),
        history=tuple(SearchStep(*row) for row in track[torch.isfinite(track[:, 2])].tolist()),
        method=search.method,
        tolerance=search.tolerance,
        dtype=str(state.thetas.dtype),
        reason=_REASON[end],
        advice=_ADVICE[end],
    )


def _settled(risk: EmpiricalRisk) -> End:
    """Tell whether a critical point lies next to a small gradient, where curvatures are small enough to doubt it."""
    dense = risk.hessian().to_dense()
    eigenvalues, vectors = torch.linalg.eigh((dense + dense.T) / 2)
    if float(eigenvalues.abs().min()) > _DOUBTED * float(eigenvalues.abs().max()):
        return End.CONVERGED
    spectrum = spectrum_at(risk, risk.gradient())
    if contraction(risk, spectrum.hessian, *spectrum.resolved, spectrum.hessian_rounding).near:
        return End.CONVERGED
    components = vectors.T @ risk.gradient()
    step = float((components / torch.where(eigenvalues == 0, torch.inf, eigenvalues)).norm())
    return End.DIVERGING if step > _LONG * (1 + float(risk.flatten().norm())) else End.UNSETTLED


def _model_at(model: nn.Module, params: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the model that holds other parameters."""
    placed = copy_model(model)
    own = dict(placed.named_parameters())
    with torch.no_grad():
        for name, tensor in params.items():
            own[name].copy_(tensor)
            own[name].grad = None
    return placed
