"""The search for extreme eigenvalues: extend, restart, sweep, until no end has one that was not found."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._basis import Basis
from liftscape.curvature._found import End, Extremes, Verified, extremes_of, places_of
from liftscape.curvature._lanczos import Krylov, Ritz, extend, restart, ritz, start, thin
from liftscape.curvature._resolution import TINY, certain_errors, rounding_of
from liftscape.curvature._sweep import chance_of_missing, sweep
from liftscape.curvature._work import Work, standard_normal

__all__ = ["find_extremes"]

# Rows that a sweep should find free; most sweeps need fewer.
_SWEEP = 20
# Products that an end is worth whose values are within the tolerance but not certain: these, or half of those before.
_PATIENCE = 30
# How an end was verified, as the end of a sentence.
_WHOLE = "the whole space was searched"
_FIRST = "any value beyond it has a part in the random start and would have been seen"
_SWEPT = "a sweep from a fresh random block found no other that belongs among them"


def find_extremes(
    work: Work,
    ends: tuple[End, ...],
    k: int,
    tolerance: float,
    chance: float,
    generator: torch.Generator,
    capacity: int,
) -> Extremes:
    """Search the ends of the spectrum.

    Args:
        work: takes the products.
        ends: which ends.
        k: how many values at each.
        tolerance: largest ‖Cs‖ relative to the largest |Ritz value|.
        chance: an end is verified once a value that belongs there was missed with at most this probability.
        generator: draws the start and the sweeps.
        capacity: how many vectors may be stored.

    Returns:
        Values, vectors, bounds, and which ends were verified.
    """
    return _Search(work, ends, k, tolerance, chance, generator, capacity).run()


@final
class _Search:
    """The state of one search: a decomposition, the block's width, and what is known of each end."""

    def __init__(
        self,
        work: Work,
        ends: tuple[End, ...],
        k: int,
        tolerance: float,
        chance: float,
        generator: torch.Generator,
        capacity: int,
    ) -> None:
        operator = work.operator
        self.work, self.ends, self.k, self.generator = work, ends, k, generator
        self.tolerance = max(tolerance, 10 * torch.finfo(operator.dtype).eps)
        basis = Basis(capacity, operator.size, operator.dtype, operator.device)
        self.krylov: Krylov = start(basis, standard_normal(1, operator, generator))
        self.width, self.bound, self.mixed = 1, chance, False
        self.met, self.coarse = (0, 0), False
        self.chance: dict[str, float] = {}
        self.shift: dict[str, float] = {}
        self.proof: dict[str, str] = {}
        self.partial: dict[str, float] = dict.fromkeys(ends, 1.0)

    def run(self) -> Extremes:
        """Extend, restart and sweep until each end is verified or the products are spent."""
        next_look, found = self.k * len(self.ends), ritz(self.krylov)
        while True:
            n = self.krylov.processed
            if n >= next_look or not self.krylov.pending:
                found, next_look = ritz(self.krylov), n + max(1, n // 32)
                if self._all_converged(found):
                    if n == self.work.operator.size:
                        self.chance = dict.fromkeys(self.ends, 0.0)
                        self.proof = dict.fromkeys(self.ends, _WHOLE)
                        self.shift = {end: self._last(found, end) for end in self.ends}
                    late: list[End] = [end for end in self.ends if end not in self.chance]
                    if not late:
                        return self._result(found)
                    if not self._waits(found) and not self._nearly_whole() and not self._goes_on(found, late[0]):
                        if late[0] in self.chance:
                            next_look = 0
                            continue
                        if not self._sweep(found, late[0]):
                            return self._result(ritz(self.krylov))
                        next_look = 0
                        continue
            if not self.krylov.pending:
                self._renew()
            chosen = self._chosen(found)
            if self.work.left < len(chosen):
                return self._result(ritz(self.krylov))
            if self.krylov.basis.count + len(chosen) > self.krylov.basis.capacity:
                self._restart(ritz(self.krylov))
                next_look = 0
            else:
                extend(self.krylov, self.work, chosen)

    def _goes_on(self, found: Ritz, end: End) -> bool:
        """Tell whether the first sequence can itself verify an end of one value, and so is to be extended."""
        # A further copy of the one value would change nothing, and any other is in the random start.
        if self.k > 1 or self.mixed:
            return False
        shift = self._beyond(found, end)
        missed = chance_of_missing(self.krylov, shift, 1, self.krylov.basis.size)
        if missed <= self.bound:
            self.chance[end], self.proof[end], self.shift[end] = missed, _FIRST, shift
            return False
        return True

    def _waits(self, found: Ritz) -> bool:
        """Tell whether to go on for values that are within the tolerance, but of uncertain sign and order."""
        places, errors = self._wanted(len(found.values)), self._errors(found)
        # Further products help against what is left of a residual, not against rounding.
        vain = errors < rounding_of(self.krylov, found.scale)
        if self.coarse or bool(((found.residuals <= errors) | vain)[places].all()):
            return False
        if not self.met[0]:
            self.met = (self.work.done, min(max(_PATIENCE, self.work.done // 2), self.work.left // 2))
        self.coarse = self.work.done - self.met[0] >= self.met[1]
        return not self.coarse

    def _errors(self, found: Ritz) -> Float[Tensor, " n"]:
        """Return the largest error with which each value is certain."""
        return certain_errors(found.values, rounding_of(self.krylov, found.scale), found.scale)

    def _last(self, found: Ritz, end: End) -> float:
        """Return the value of an end that is next to the others."""
        return float(found.values[places_of(end, self.k, len(found.values))[0 if end == "largest" else -1]])

    def _beyond(self, found: Ritz, end: End) -> float:
        """Return the shift next to an end's last value beyond which no other may be missed."""
        last, width = self._last(found, end), self.tolerance * found.scale
        place = places_of(end, self.k, len(found.values))[0 if end == "largest" else -1]
        error = float(self._errors(found)[place])
        if not self.coarse and error >= rounding_of(self.krylov, found.scale):
            width = min(width, error)
        return last + (1 if end == "largest" else -1) * max(width, TINY)

    def _nearly_whole(self) -> bool:
        """Tell whether the whole space fits and little of it is left, so that taking it is cheaper than a sweep."""
        basis = self.krylov.basis
        return basis.capacity >= 2 * basis.size and basis.size - self.krylov.processed < _SWEEP * self.width

    def _wanted(self, n: int) -> list[int]:
        """Return the places of all values asked for."""
        return sorted({place for end in self.ends for place in places_of(end, self.k, n)})

    def _all_converged(self, found: Ritz) -> bool:
        """Tell whether there are as many Ritz values as asked for, each converged."""
        n = len(found.values)
        good = found.residuals[self._wanted(n)] <= self.tolerance * found.scale
        return n >= self.k * len(self.ends) and bool(good.all())

    def _chosen(self, found: Ritz) -> list[int]:
        """Return the pending rows that the values not yet converged hang on most, at most a block of them."""
        pending = self.krylov.pending
        if pending == 1 or found.couplings.shape[0] != pending or not len(found.values):
            return list(range(min(pending, self.width)))
        wanted = torch.tensor(self._wanted(len(found.values)))
        late = wanted[found.residuals[wanted] > self.tolerance * found.scale]
        weights = found.couplings[:, late if len(late) else wanted].abs().amax(dim=1)
        order = torch.argsort(weights, descending=True, stable=True)[: self.width]
        return [int(index) for index in order if weights[index] >= 0.1 * weights[order[0]]]

    def _sweep(self, found: Ritz, end: End) -> bool:
        """Look for more eigenvalues at an end; return whether to go on."""
        basis = self.krylov.basis
        if basis.capacity - basis.count < min(_SWEEP * self.width, basis.capacity // 2):
            self._restart(found)
            found = ritz(self.krylov)
        sign, shift = 1 if end == "largest" else -1, self._beyond(found, end)
        # Sweeps that share in one chance are known at the farthest of their shifts.
        farthest = max(sign * shift, sign * self.shift.get(end, shift)) * sign
        seen = sweep(self.krylov, self.work, self.generator, shift, sign, self.width, self.bound / self.partial[end])
        if seen.outcome == "found":
            self.width = min(2 * self.width, max(1, basis.capacity // 8))
            self.partial[end], self.met, self.coarse = 1.0, (0, 0), False
            self.shift.pop(end, None)
        else:
            self.shift[end] = farthest
            # Sweeps draw their blocks independently, so the chances that each of them missed the same value multiply.
            self.partial[end] *= seen.chance
        if self.partial[end] <= self.bound:
            self.chance[end], self.proof[end] = self.partial[end], _SWEPT
        return seen.outcome != "stopped"

    def _restart(self, found: Ritz) -> None:
        """Cut the decomposition to the values asked for and half of what is left, those next to them."""
        capacity, n = self.krylov.basis.capacity, len(found.values)
        self.mixed = True
        total = self.k * len(self.ends)
        spare = max(0, (capacity - total - self.krylov.pending - 2 * self.width) // 2) // len(self.ends)
        low, high = (min(n, self.k + spare) if end in self.ends else 0 for end in ("smallest", "largest"))
        keep = sorted({*range(low), *range(n - high, n)})
        if len(keep) < n:
            restart(self.krylov, found, keep)
        room = max(1, (capacity - self.krylov.processed) // 2 - self.width)
        if self.krylov.pending > room:
            thin(self.krylov, room)

    def _renew(self) -> None:
        """Add a random block where the space was exhausted: nothing hangs on it."""
        basis = self.krylov.basis
        before = basis.count
        width = min(self.width, basis.size - before, basis.capacity - before)
        basis.append(standard_normal(width, self.work.operator, self.generator))
        self.krylov.C = torch.zeros(basis.count - before, self.krylov.processed, dtype=torch.float64)

    def _result(self, found: Ritz) -> Extremes:
        """Return what is known."""
        return extremes_of(self.krylov, found, self.work.scale, self.ends, self.k, self.tolerance, self._verified())

    def _verified(self) -> dict[str, Verified]:
        """Return what is known of the ends that were verified."""
        return {end: Verified(chance, self.proof[end], self.shift[end]) for end, chance in self.chance.items()}
