"""Training many networks of one architecture at once."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from liftscape._random import as_seed
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk
from liftscape.training._rules import make_rule
from liftscape.training._run import Loss, Progress, Run
from liftscape.training._stack import initial_model, minibatches, per_network

__all__ = ["Ensemble", "train_ensemble"]

# The checks of named losses read numbers off the data, which no vectorised pass can do; they are made beforehand.
_NAMED: dict[str, Loss] = {"mse": functional.mse_loss, "cross_entropy": functional.cross_entropy}


@final
@dataclass(frozen=True)
class Ensemble(Outcome):
    """Networks that were trained at once, with the losses on the way.

    Attributes:
        model: the architecture; its weights are those of the first network at its start.
        parameters: trainable parameters at the end, by name, (K, …).
        constants: buffers and frozen parameters at the end, by name, (K, …).
        steps: (T,), the steps before which the risk was recorded; the last is the end.
        losses: (K, T), the risk on all data; NaN or inf from where a network diverged.
        snapshots: trainable parameters before the steps that were asked for, by step.
        seeds: of each network.
        scales: of each network's initialisation.
        learning_rates: of each network.
    """

    model: nn.Module
    parameters: dict[str, Tensor]
    constants: dict[str, Tensor]
    steps: tuple[int, ...]
    losses: Float[Tensor, "K T"]
    snapshots: dict[int, dict[str, Tensor]]
    seeds: tuple[int, ...]
    scales: tuple[float, ...]
    learning_rates: tuple[float, ...]

    def __len__(self) -> int:
        """Return the number K of networks."""
        return len(self.seeds)

    def member(self, index: int, step: int | None = None) -> nn.Module:
        """Return one of the networks, at the end or at a snapshot.

        Args:
            index: which one.
            step: of a snapshot; the end when None.

        Returns:
            A new module.

        Raises:
            LiftscapeError: if there is no such snapshot.
        """
        if step is not None and step not in self.snapshots:
            raise LiftscapeError(f"there is no snapshot of step {step}; there are {sorted(self.snapshots)}.")
        stacked = (self.parameters if step is None else self.snapshots[step]) | self.constants
        copy = deepcopy(self.model)
        with torch.no_grad():
            for name, tensor in (dict(copy.named_parameters()) | dict(copy.named_buffers())).items():
                tensor.copy_(stacked[name][index])
        return copy


def train_ensemble(
    make_model: Callable[[], nn.Module],
    loss: Literal["mse", "cross_entropy"] | Loss,
    data: tuple[Tensor, Tensor],
    *,
    starts: int = 256,
    steps: int = 2000,
    learning_rate: "float | Sequence[float]" = 0.1,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    batch_size: int | None = None,
    scale: "float | Sequence[float]" = 1.0,
    generator: torch.Generator | int | None = None,
    record: Sequence[int] | None = None,
    snapshots: Sequence[int] = (),
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Train K networks at once, each from its own draw, with its own rate and its own order of the data.

    θ_k ← rule(θ_k, ∇R_k(θ_k)) for all k in one vectorised pass: Σ_k R_k has the gradients of all networks, since R_k
    depends on θ_k alone. Network k is drawn with seed + k, and is the same in whatever company it trains.

    Source: none.

    Args:
        make_model: makes a network, drawing from torch's global generator, which is left as it was.
        loss: ``"mse"``, ``"cross_entropy"`` or a callable(output, target) that gives the mean over the batch.
        data: inputs and targets.
        starts: how many networks, K.
        steps: how many steps.
        learning_rate: one for all, or one for each.
        optimizer: "sgd" or "adam", as torch.optim has them.
        momentum: of SGD.
        batch_size: samples of each step, without replacement within an epoch; all of them when None.
        scale: times which the parameters are drawn, one for all or one for each.
        generator: the seed of the first network, or a generator that it is drawn from; 0 when None.
        record: the steps before which the risk on all data is recorded; about 200, denser at the beginning, when None.
        snapshots: the steps before which the parameters are kept.
        chunk: how many networks train at a time, which bounds the memory; all when None.
        progress: called with (steps done, steps in all).

    Returns:
        The networks with their losses.

    Raises:
        LiftscapeError: if an argument is out of its range, or networks differ in their layers.
        ModelError: if the module cannot be vectorised by torch.func, or the networks differ in more than their
            parameters and buffers.

    Example:
        >>> x = torch.linspace(-1, 1, 16, dtype=torch.float64)[:, None]
        >>> make = lambda: nn.Linear(1, 1, dtype=torch.float64)
        >>> made = train_ensemble(make, "mse", (x, 2 * x), starts=3, steps=300, learning_rate=0.5)
        >>> made.losses.shape[0], bool((made.losses[:, -1] < 1e-20).all())
        (3, True)
    """
    samples = len(data[0])
    _check(starts, steps, batch_size, samples, chunk)
    rates, scales = per_network(learning_rate, starts, "learning_rate"), per_network(scale, starts, "scale")
    recorded = _recorded(steps) if record is None else tuple(sorted({*record, steps}))
    seed = as_seed(generator)
    seeds = range(seed, seed + starts)
    first = initial_model(make_model, seeds[0], scales[0])
    # Refuses what cannot be trained: data that do not fit, random models.
    EmpiricalRisk(first, loss, data)
    function = _NAMED[loss] if isinstance(loss, str) else loss
    size = starts if chunk is None else chunk
    parts = []
    for begin in range(0, starts, size):
        members = slice(begin, begin + size)
        models = [initial_model(make_model, s, c) for s, c in zip(seeds[members], scales[members], strict=True)]
        rule = make_rule(optimizer, torch.tensor(rates[members], dtype=torch.float64), momentum)
        orders = None if batch_size is None else [minibatches(samples, batch_size, s) for s in seeds[members]]
        run = Run(function, data, models, rule, orders)
        parts.append(run.train(steps, recorded, snapshots, _counted(progress, begin // size, -(-starts // size))))
    theta, constants, losses, kept = (list(each) for each in zip(*parts, strict=True))
    return Ensemble(
        first,
        _join(theta),
        _join(constants),
        recorded,
        torch.cat(losses),
        {step: _join([part[step] for part in kept]) for step in kept[0]},
        tuple(seeds),
        tuple(scales),
        tuple(rates),
    )


def _check(starts: int, steps: int, batch_size: int | None, samples: int, chunk: int | None) -> None:
    """Raise if a number is out of its range."""
    given = {"starts": starts, "steps": steps, "chunk": 1 if chunk is None else chunk}
    for name, value in given.items():
        if value < 1:
            raise LiftscapeError(f"{name} must be at least 1, but {value} was given.")
    if batch_size is not None and not 1 <= batch_size <= samples:
        raise LiftscapeError(f"batch_size must be between 1 and the {samples} samples, but {batch_size} was given.")


def _recorded(steps: int, count: int = 200) -> tuple[int, ...]:
    """Return steps from 0 to the end, evenly spaced on a log scale."""
    return tuple(sorted({0, steps, *(round((steps + 1) ** (index / (count - 1))) - 1 for index in range(count))}))


def _join(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return stacks one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _counted(progress: Progress | None, done: int, chunks: int) -> Progress:
    """Count the steps of all chunks."""

    def advance(step: int, steps: int) -> None:
        if progress is not None:
            progress(done * steps + step, chunks * steps)

    return advance
