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
from liftscape.critical._runaway import WINDOW, nears, runs_away, stands_still

__all__ = ["End", "Progress", "Search", "SearchState"]

Progress = Callable[[int, int], None]

_FIRST_DAMPING = {"newton-mr": 0.0, "minimum": 1e-2, "gradient-norm": 1e-1}
_POLISHING_STEPS, _STALLED_STEPS = 4, 8
_RUNAWAY, _LOST = 1e4, 3
# Saturated units are flat to rounding, and were driven far from the start.
_FAR, _ROUNDING = 20.0, 1e-13
# A direction that is flat for a reason of structure is so everywhere, but for rounding.
_ALWAYS_FLAT = 1e-10


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
        starts: the points at the start, (K, M).
        expected: ∇R here as the quadratic model at the last point had it, (K, M); nan at the start.
        damping: μ relative to max |λ|, (K,).
        lost: evaluations in a row at which nothing said that a critical point is neared, (K,).
        polished: Newton steps taken since ‖g‖ came below the tolerance, (K,).
        stalled: line searches in a row that found no decrease, (K,).
        ends: an :class:`End` for each point, (K,).
        flatness: r at the last evaluation, (K,).
        history: R, ‖g‖ and length of the step at each evaluation, (steps, K, 3); nan after the end.
    """

    thetas: Float[Tensor, "K M"]
    starts: Float[Tensor, "K M"]
    expected: Float[Tensor, "K M"]
    damping: Float[Tensor, " K"]
    lost: Int[Tensor, " K"]
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
            starts=thetas.detach().clone(),
            expected=torch.full_like(thetas, torch.nan),
            damping=zeros + _FIRST_DAMPING[self.method],
            lost=counters,
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
        lost = state.lost[rows] + 1
        lost[nears(history[-3:, rows], model.gradients - state.expected[rows])] = 0
        ends = self._ends(state, rows, history, model, small, stalled, lost)
        moves = torch.where((ends == End.RUNNING)[:, None], moves, 0.0)
        history[-1, rows, 2] = moves.norm(dim=1)
        return replace(
            state,
            thetas=state.thetas.index_copy(0, rows, thetas + moves),
            expected=state.expected.index_copy(0, rows, model.gradient_after(moves)),
            damping=state.damping.index_copy(0, rows, _adapt(state.damping[rows], fractions)),
            lost=state.lost.index_copy(0, rows, lost),
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
            [runs_away(track, len(track) - 1) for track in state.history.unbind(1)], device=still.device
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
        self,
        state: SearchState,
        rows: Tensor,
        history: Tensor,
        model: LocalModel,
        small: Tensor,
        stalled: Tensor,
        lost: Tensor,
    ) -> Tensor:
        """Return an End for each running point."""
        ends = torch.full_like(rows, int(End.RUNNING))
        flat = flatness_of_spectrum(model.eigenvalues, model.components)
        singular = model.eigenvalues.abs().amin(dim=1) <= _ROUNDING * model.largest[:, 0]
        tired = (stalled >= _STALLED_STEPS) | ((flat > FLAT) & stands_still(history[-WINDOW:, rows]))
        ends[tired & ~small] = torch.where(flat > FLAT, int(End.FLAT), int(End.STALLED))[tired & ~small]
        done = small & ((stalled > 0) | (state.polished[rows] >= _POLISHING_STEPS))
        norms = state.thetas[rows].norm(dim=1)
        reach = 1 + state.starts[rows].norm(dim=1)
        runaway = (norms > _RUNAWAY * reach) & (lost >= _LOST)
        ends[(runaway & ~small) | ~torch.isfinite(history[-1, rows]).all(dim=1)] = int(End.DIVERGING)
        for index in torch.nonzero(done).squeeze(1).tolist():
            track = history[:, rows[index]]
            first = int((track[:, 1] <= self.tolerance).long().argmax())
            far = bool(singular[index]) and float(norms[index]) > _FAR * float(reach[index])
            flattened = far and self._has_flattened(state.starts[rows[index]], model, index)
            away = flattened or runs_away(track, first, float(norms[index]))
            ends[index] = int(End.DIVERGING if away else End.CONVERGED)
        return ends

    def _has_flattened(self, start: Tensor, model: LocalModel, index: int) -> bool:
        """Tell whether directions in which a point is flat were curved at its start, as where units saturate."""
        null = model.vectors[index][:, model.eigenvalues[index].abs() <= _ROUNDING * model.largest[index]]
        before = self.landscape.hessians(start[None])[0]
        return not bool((before @ null).norm() <= _ALWAYS_FLAT * before.norm())


def _adapt(damping: Tensor, fractions: Tensor) -> Tensor:
    """Relax the damping after full steps, raise it after short or failed ones."""
    relaxed = torch.where(damping > 1e-6, damping / 4, 0.0)
    raised = (4 * damping).clamp(min=1e-3)
    failed = (10 * damping).clamp(min=1e-2)
    adapted = torch.where(fractions >= 1, relaxed, torch.where(fractions <= 1 / 16, raised, damping))
    return torch.where(fractions == 0, failed, adapted)
