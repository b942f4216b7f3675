"""The search as init, step and terminate over K points at once; the loop is written here once."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liftscape.critical._batched import Landscape
from liftscape.critical._flatness import FLAT, flatness_of_spectrum
from liftscape.critical._line_search import backtrack
from liftscape.critical._newton_mr import LocalModel, Method, local_model, polishing_step, propose

__all__ = ["End", "Progress", "Search", "SearchState"]

Progress = Callable[[int, int], None]

_FIRST_DAMPING = {"newton-mr": 0.0, "minimum": 1e-2, "gradient-norm": 1e-1}
_POLISHING_STEPS, _STALLED_STEPS, _WINDOW = 4, 8, 15
_RUNAWAY = 1e4
# Saturated units are flat to rounding, and were driven far from the start.
_FAR, _ROUNDING = 20.0, 1e-13
# At a critical point the last steps shrink faster than geometrically, or are short; towards infinity they do neither.
_TAIL, _GEOMETRIC, _LONG = 5, 0.2, 1e-3


class End(IntEnum):
    """Why a point's iteration ended."""

    RUNNING = 0
    CONVERGED = 1
    FLAT = 2
    DIVERGING = 3
    STALLED = 4
    EXHAUSTED = 5
    UNSETTLED = 6


@dataclass(frozen=True)
class SearchState:
    """All that the next step depends on.

    Attributes:
        thetas: the points, (K, M).
        start_norms: ‖θ‖ at the start, (K,).
        damping: μ relative to max |λ|, (K,).
        polished: Newton steps taken since ‖g‖ came below the tolerance, (K,).
        stalled: line searches in a row that found no decrease, (K,).
        ends: an :class:`End` for each point, (K,).
        flatness: r at the last evaluation, (K,).
        history: R, ‖g‖ and length of the step at each evaluation, (steps, K, 3); nan after the end.
    """

    thetas: Float[Tensor, "K M"]
    start_norms: Float[Tensor, " K"]
    damping: Float[Tensor, " K"]
    polished: Int[Tensor, " K"]
    stalled: Int[Tensor, " K"]
    ends: Int[Tensor, " K"]
    flatness: Float[Tensor, " K"]
    history: Float[Tensor, "steps K 3"]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors by name, which ``torch.save`` or safetensors can write."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> "SearchState":
        """Return the state that :meth:`to_tensors` gave."""
        return cls(**tensors)


@final
@dataclass(frozen=True)
class Search:
    """One method on one landscape.

    Attributes:
        landscape: the risk as a function of many parameter vectors.
        method: the step's spectral filter.
        max_steps: evaluations of the quadratic model for each point.
        tolerance: ‖∇R‖ at which a point counts as critical.
    """

    landscape: Landscape
    method: Method
    max_steps: int
    tolerance: float

    def init(self, thetas: Float[Tensor, "K M"]) -> SearchState:
        """Return the state at the starts."""
        count = len(thetas)
        zeros, counters = thetas.new_zeros(count), torch.zeros(count, dtype=torch.long, device=thetas.device)
        return SearchState(
            thetas=thetas.detach().clone(),
            start_norms=thetas.norm(dim=1),
            damping=zeros + _FIRST_DAMPING[self.method],
            polished=counters,
            stalled=counters,
            ends=counters + End.RUNNING,
            flatness=zeros,
            history=thetas.new_zeros((0, count, 3)),
        )

    def step(self, state: SearchState) -> SearchState:
        """Evaluate the running points, end those that are done, move the others."""
        rows = torch.nonzero(state.ends == End.RUNNING).squeeze(1)
        thetas, model = state.thetas[rows], local_model(self.landscape, state.thetas[rows])
        norms = model.gradients.norm(dim=1)
        flat = flatness_of_spectrum(model.eigenvalues, model.components)
        record = torch.full_like(state.history.new_empty((1, len(state.thetas), 3)), torch.nan)
        record[0, rows] = torch.stack([model.values, norms, torch.zeros_like(norms)], dim=1)
        history = torch.cat([state.history, record])

        moves, fractions = self._moves(thetas, model, norms, state.damping[rows])
        small = norms <= self.tolerance
        stalled = torch.where(fractions > 0, 0, state.stalled[rows] + 1)
        ends = self._ends(state, rows, history, model, small, stalled)
        moves = torch.where((ends == End.RUNNING)[:, None], moves, 0.0)
        history[-1, rows, 2] = moves.norm(dim=1)
        return replace(
            state,
            thetas=state.thetas.index_copy(0, rows, thetas + moves),
            damping=state.damping.index_copy(0, rows, _adapt(state.damping[rows], fractions)),
            polished=state.polished.index_add(0, rows, small.long()),
            stalled=state.stalled.index_copy(0, rows, stalled),
            ends=state.ends.index_copy(0, rows, ends),
            flatness=state.flatness.index_copy(0, rows, flat),
            history=history,
        )

    def terminate(self, state: SearchState) -> bool:
        """Tell whether every point has ended or the steps are used up."""
        return len(state.history) >= self.max_steps or not bool((state.ends == End.RUNNING).any())

    def run(self, state: SearchState, progress: Progress | None = None) -> SearchState:
        """Step until the end, and say of points that still run how they were ended."""
        while not self.terminate(state):
            state = self.step(state)
            if progress is not None:
                progress(int((state.ends != End.RUNNING).sum()), len(state.ends))
        still = state.ends == End.RUNNING
        small = state.history[-1, :, 1] <= self.tolerance if len(state.history) else still & False
        away = torch.tensor(
            [_runs_away(track, len(track) - 1) for track in state.history.unbind(1)], device=still.device
        )
        end = torch.where(state.flatness > FLAT, int(End.FLAT), int(End.EXHAUSTED))
        end = torch.where(small, int(End.CONVERGED), end)
        end = torch.where(away, int(End.DIVERGING), end)
        return replace(state, ends=torch.where(still, end, state.ends))

    def _moves(self, thetas: Tensor, model: LocalModel, norms: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Return the accepted moves and their fractions of the proposed step, 0 where none was accepted."""
        moves, fractions = torch.zeros_like(thetas), torch.zeros_like(norms)
        small = norms <= self.tolerance
        if bool((~small).any()):
            reach = 1 + thetas.norm(dim=1)
            proposal = propose(self.method, model, damping, reach)
            merits = torch.where(proposal.on_gradient, norms.square(), model.values)
            # Points within the tolerance are polished below; an infinite bound lets them through the search at once.
            fractions = backtrack(self.landscape, thetas, proposal, torch.where(small, torch.inf, merits))
            moves = fractions[:, None] * proposal.directions
        if bool(small.any()):
            polished = polishing_step(model)[small]
            better = self.landscape.gradients(thetas[small] + polished).norm(dim=1) <= norms[small] / 2
            fractions[small] = better.to(fractions)
            moves[small] = torch.where(better[:, None], polished, 0.0)
        return moves, fractions

    def _ends(
        self, state: SearchState, rows: Tensor, history: Tensor, model: LocalModel, small: Tensor, stalled: Tensor
    ) -> Tensor:
        """Return an End for each running point."""
        ends = torch.full_like(rows, int(End.RUNNING))
        flat = flatness_of_spectrum(model.eigenvalues, model.components)
        singular = model.eigenvalues.abs().amin(dim=1) <= _ROUNDING * model.largest[:, 0]
        tired = (stalled >= _STALLED_STEPS) | ((flat > FLAT) & _stands_still(history[-_WINDOW:, rows]))
        ends[tired & ~small] = torch.where(flat > FLAT, int(End.FLAT), int(End.STALLED))[tired & ~small]
        done = small & ((stalled > 0) | (state.polished[rows] >= _POLISHING_STEPS))
        norms = state.thetas[rows].norm(dim=1)
        runaway = norms > _RUNAWAY * (1 + state.start_norms[rows])
        ends[runaway | ~torch.isfinite(history[-1, rows]).all(dim=1)] = int(End.DIVERGING)
        for index in torch.nonzero(done).squeeze(1).tolist():
            track = history[:, rows[index]]
            first = int((track[:, 1] <= self.tolerance).long().argmax())
            far = bool(singular[index]) and float(norms[index]) > _FAR * (1 + float(state.start_norms[rows[index]]))
            away = far or _runs_away(track, first, float(norms[index]))
            ends[index] = int(End.DIVERGING if away else End.CONVERGED)
        return ends


def _adapt(damping: Tensor, fractions: Tensor) -> Tensor:
    """Relax the damping after full steps, raise it after short or failed ones."""
    relaxed = torch.where(damping > 1e-6, damping / 4, 0.0)
    raised = (4 * damping).clamp(min=1e-3)
    failed = (10 * damping).clamp(min=1e-2)
    adapted = torch.where(fractions >= 1, relaxed, torch.where(fractions <= 1 / 16, raised, damping))
    return torch.where(fractions == 0, failed, adapted)


def _stands_still(window: Tensor) -> Tensor:
    """Tell points (steps, K, 3) whose risk and gradient norm have not moved by a hundredth over the window."""
    if len(window) < _WINDOW:
        return torch.zeros(window.shape[1], dtype=torch.bool, device=window.device)
    first, last = window[0, :, :2], window[-1, :, :2]
    return ((first - last).abs() <= 1e-2 * first.abs()).all(dim=1)


def _runs_away(track: Tensor, last: int, norm: float | None = None) -> bool:
    """Tell whether ‖g‖ falls only geometrically while steps stay long: the infimum lies at infinity."""
    first = max(0, last - _TAIL)
    if last - first < 3 or not bool(torch.isfinite(track[first : last + 1]).all()):
        return False
    lengths, decay = track[first:last, 2], track[last, 1] / track[first, 1]
    scale = 1.0 if norm is None else 1 + norm
    return bool(decay < 1) and float(decay) > _GEOMETRIC ** (last - first) and float(lengths.min()) > _LONG * scale
