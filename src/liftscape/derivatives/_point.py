"""A point θ held fixed: what a product is taken at, whatever becomes of the caller's model meanwhile."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from liftscape.derivatives._chosen import chosen_parameters
from liftscape.functional import call_model
from liftscape.samples import Batch, Batches, Loss, batch_size

__all__ = ["Point", "hold", "pieces_of", "slice_batch"]


@final
@dataclass(frozen=True)
class Point:
    """A model, a loss and data at clones of all parameters and buffers, in the modes of that moment.

    Attributes:
        model: the module whose structure is used.
        loss: of (output, target), the mean over a batch.
        batches: the data.
        leaves: the parameters to differentiate with respect to, by name.
        constants: all other parameters.
        buffers: those of the model.
        modes: whether each module trains.
    """

    model: nn.Module
    loss: Loss
    batches: Batches
    leaves: dict[str, Tensor]
    constants: dict[str, Tensor]
    buffers: dict[str, Tensor]
    modes: tuple[bool, ...]

    def call(self, inputs: Any) -> Any:
        """Return what the model returns at this point.

        Args:
            inputs: as for :func:`liftscape.risk.call_model`.

        Returns:
            The output, with a graph that ends in the leaves.
        """
        with _in_modes(self.model, self.modes):
            return call_model(self.model, {**self.constants, **self.leaves}, inputs, self.buffers)

    def loss_on(self, batch: Batch) -> Tensor:
        """Return the mean loss on one batch.

        Args:
            batch: (inputs, targets).

        Returns:
            A scalar with its graph.
        """
        return self.loss(self.call(batch[0]), batch[1])

    def chunks(self, size: int | None) -> Iterator[tuple[Batch, float]]:
        """Yield the samples in pieces of at most a given size, with their weights n_c / n.

        Args:
            size: the most samples of a piece; None for the batches as they are.

        Yields:
            A batch and its weight.
        """
        for batch in self.batches:
            for piece in pieces_of(batch, size):
                yield piece, batch_size(piece[0]) / self.batches.samples

    def terms(self, size: int | None) -> Iterator[Tensor]:
        """Yield the terms (n_c / n) ℓ_c whose sum is the risk, piece by piece.

        Args:
            size: as for :meth:`chunks`.

        Yields:
            A scalar with its graph.
        """
        for batch, weight in self.chunks(size):
            yield self.loss_on(batch) * weight

    def includes(self, other: "Point") -> bool:
        """Tell whether another point holds the same tensors in the same modes, and no further leaves.

        Args:
            other: of the same model, loss and data.

        Returns:
            Whether its derivatives are blocks of those at this one.
        """
        if self.modes != other.modes or not self.leaves.keys() >= other.leaves.keys():
            return False
        own, others = ({**at.leaves, **at.constants, **at.buffers} for at in (self, other))
        return all(torch.equal(own[name], tensor) for name, tensor in others.items())


def hold(
    model: nn.Module, loss: Loss, batches: Batches, params: Mapping[str, Tensor], only: str | Sequence[str] | None
) -> Point:
    """Return the point of these parameters.

    Args:
        model: the module.
        loss: of (output, target).
        batches: the data.
        params: all trainable parameters by name.
        only: as for :func:`chosen_parameters`.

    Returns:
        The point, with clones of everything that the caller may change.

    Raises:
        ModelError: if a name is unknown.
    """
    names = chosen_parameters(model, only)
    leaves = {name: params[name].detach().clone().requires_grad_() for name in names}
    own = {name: params.get(name, tensor) for name, tensor in model.named_parameters()}
    constants = {name: tensor.detach().clone() for name, tensor in own.items() if name not in leaves}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    return Point(model, loss, batches, leaves, constants, buffers, tuple(m.training for m in model.modules()))


def pieces_of(batch: Batch, size: int | None) -> Iterator[Batch]:
    """Yield a batch in pieces of nearly equal size.

    Args:
        batch: (inputs, targets).
        size: the most samples of a piece; None for the batch as it is.

    Yields:
        Views.
    """
    n = batch_size(batch[0])
    count = 1 if size is None else -(-n // size)
    for start, stop in pairwise(n * piece // count for piece in range(count + 1)):
        yield batch if count == 1 else slice_batch(batch, start, stop)


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Return samples start to stop of a batch.

    Args:
        batch: (inputs, targets).
        start: the first sample.
        stop: the one after the last.

    Returns:
        Views.
    """
    return tree_map_only(Tensor, lambda tensor: tensor[start:stop], batch[0]), batch[1][start:stop]


@contextmanager
def _in_modes(model: nn.Module, modes: tuple[bool, ...]) -> Generator[None, None, None]:
    """Let each module train or not as it did, while the context lasts."""
    changed = [(m, m.training, mode) for m, mode in zip(model.modules(), modes, strict=True) if m.training != mode]
    try:
        for module, _, mode in changed:
            module.training = mode
        yield
    finally:
        for module, own, _ in changed:
            module.training = own
