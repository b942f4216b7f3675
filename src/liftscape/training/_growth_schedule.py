"""Growth at plateaus: train, see that the loss stands, escape by a new layer, go on with the optimizer's state."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, final

import torch
from torch import nn
from torch.optim import Optimizer

from liftscape._random import as_generator
from liftscape.escaping import Escape, escape
from liftscape.functional import arguments_of
from liftscape.outcomes import LiftscapeError, NotStuckError, Outcome
from liftscape.risk import EmpiricalRisk, require_risk
from liftscape.samples import Batch
from liftscape.training._carry import carry_over

__all__ = ["Growth", "GrowthSchedule"]


@final
@dataclass(frozen=True)
class Growth(Outcome):
    """One attempt to grow.

    Attributes:
        step: after which it was made.
        escape: what was found; its status is "none" where the network stayed as it was.
        model: the network that goes on.
        optimizer: of that network.
    """

    step: int
    escape: Escape
    model: nn.Module = field(repr=False)
    optimizer: Optimizer = field(repr=False)


@final
class GrowthSchedule:
    """Grows a network by escapes: wherever the loss stands, a layer is inserted that lowers it.

    The loss stands if its mean over the last steps is not below that over as many steps before by a share of it. The
    inserted layer keeps the risk and then lowers it by what :func:`liftscape.escape` predicts; parameters that it
    leaves alone keep the optimizer's state.

    In a loop of one's own, :meth:`step` is called after each step of the optimizer; :meth:`train` is such a loop.

    Source: derived (theory 7).

    Args:
        risk: loss and data on which ways down are sought; its model is not used.
        layers: at most so many are inserted.
        patience: so many steps are averaged.
        fall: the share.
        at: names of the maps that are tried; a map that a layer was inserted in front of stays one. All when None.
        width: of the inserted layers; as few neurons as will do when None.
        neurons: how many leave their piece at once.
        activation: as for :func:`liftscape.lift`.
        starts: directions that ascend.
        ridge: as for :func:`liftscape.escape`; some of it, so that training can go on with its learning rate.
        generator: source of randomness, on the CPU; seed 0 when None.
        callback: called with each attempt, after the optimizer's state was carried.

    Raises:
        LiftscapeError: if a number makes no sense.

    Example:
        >>> x = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
        >>> model = nn.Sequential(nn.Linear(1, 1)).double()
        >>> growth = GrowthSchedule(EmpiricalRisk(model, "mse", (x, x.abs())), layers=1, width=8, patience=50)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        >>> model, optimizer = growth.train(model, optimizer, steps=400)
        >>> len(growth.attempts), float(growth.risk.with_model(model).value()) < 0.01
        (1, True)
    """

    def __init__(
        self,
        risk: EmpiricalRisk,
        *,
        layers: int = 1,
        patience: int = 100,
        fall: float = 0.01,
        at: str | Sequence[str] | None = None,
        width: int | None = None,
        neurons: int = 1,
        activation: "nn.Module | type[nn.Module] | str | None" = None,
        starts: int = 32,
        ridge: float = 0.1,
        generator: torch.Generator | int | None = None,
        callback: Callable[[Growth], None] | None = None,
    ) -> None:
        require_risk(risk, "GrowthSchedule")
        if layers < 0 or patience < 1 or not 0 <= fall < 1:
            raise LiftscapeError(
                f"layers must be at least 0, patience at least 1 and fall a share below 1, but {layers}, {patience} "
                f"and {fall} were given."
            )
        self.risk, self.attempts = risk, list[Growth]()
        self._layers, self._fall, self._callback = layers, fall, callback
        self._at = [at] if isinstance(at, str) else at
        draws = as_generator(generator)
        self._how: dict[str, Any] = {"width": width, "neurons": neurons, "activation": activation}
        self._how |= {"starts": starts, "ridge": ridge, "generator": draws}
        self._losses: deque[float] = deque(maxlen=2 * patience)
        self._steps = 0

    @property
    def inserted(self) -> int:
        """How many layers were inserted."""
        return sum(attempt.escape.status == "found" for attempt in self.attempts)

    def step(self, model: nn.Module, optimizer: Optimizer, loss: float) -> tuple[nn.Module, Optimizer]:
        """Take note of a loss, and return the network and the optimizer that go on.

        Args:
            model: that is trained.
            optimizer: that trains it.
            loss: of the last step.

        Returns:
            Both as given, or a deeper network and its optimizer.
        """
        self._steps += 1
        self._losses.append(float(loss))
        if self.inserted >= self._layers or not self._stands():
            return model, optimizer
        self._losses.clear()
        try:
            found = escape(self.risk.with_model(model), at=self._sites(model), tolerance=inf, **self._how)
        except NotStuckError:
            # Nothing is left to be learnt.
            return model, optimizer
        if found.status == "found":
            model, optimizer = found.model, carry_over(optimizer, old=model, new=found.model)
        self.attempts.append(Growth(self._steps, found, model, optimizer))
        if self._callback is not None:
            self._callback(self.attempts[-1])
        return model, optimizer

    def train(self, model: nn.Module, optimizer: Optimizer, steps: int) -> tuple[nn.Module, Optimizer]:
        """Train on the risk's batches in turn, growing wherever the loss stands.

        Args:
            model: is trained in place until it grows.
            optimizer: any that steps without a closure.
            steps: of it.

        Returns:
            The network and its optimizer at the end.
        """
        batches = self._batches()
        for _ in range(steps):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            args, kwargs = arguments_of(inputs)
            loss = self.risk.loss(model(*args, **kwargs), targets)
            loss.backward()
            optimizer.step()
            model, optimizer = self.step(model, optimizer, float(loss.detach()))
        return model, optimizer

    def _stands(self) -> bool:
        """Tell whether the later half of the losses is not below the earlier."""
        losses = list(self._losses)
        half = len(losses) // 2
        full = len(losses) == self._losses.maxlen
        return full and sum(losses[half:]) > (1 - self._fall) * sum(losses[:half])

    def _sites(self, model: nn.Module) -> list[str] | None:
        """Return the names under which the maps that may be tried are found by now."""
        if self._at is None:
            return None
        names = {name for name, _ in model.named_modules()}
        sites = list(self._at)
        for place, name in enumerate(sites):
            while f"{name}.B" in names:
                name = f"{name}.B"
            sites[place] = name
        return sites

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches again and again."""
        while True:
            yield from self.risk.batches
