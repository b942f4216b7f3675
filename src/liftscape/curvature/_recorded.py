"""Operators whose products are kept in a folder, so that whatever took them resumes there after a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._checkpoint import Journal
from liftscape.operators import SymmetricOperator
from liftscape.outcomes import LoadError, Outcome, from_plain

__all__ = ["RecordedOperator", "generator_digest", "recorded", "resumed"]

Result = TypeVar("Result", bound=Outcome)


@final
class RecordedOperator(SymmetricOperator):
    """H, whose products are recorded in a folder and read from there when the same work is done again.

    The record takes as many bytes as the products: their number · M · bytes of an entry.

    Args:
        operator: H.
        folder: made if it does not exist; of this work alone.
        settings: plain values that make the work the work it is.

    Raises:
        LoadError: if the folder holds other work.

    Example:
        >>> import tempfile
        >>> from liftscape.operators import as_operator
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (RecordedOperator(as_operator(2 * torch.eye(2)), Path(folder), {}) @ torch.ones(2)).tolist()
        [2.0, 2.0]
    """

    def __init__(self, operator: SymmetricOperator, folder: Path, settings: dict[str, Any]) -> None:
        self._operator = operator
        self.journal = Journal(folder, operator, settings)

    @property
    def size(self) -> int:
        """The number M of rows."""
        return self._operator.size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the products."""
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        """The device of the products."""
        return self._operator.device

    def prepare(self) -> None:
        """Prepare H."""
        self._operator.prepare()

    def verify(self) -> None:
        """Verify H."""
        self._operator.verify()

    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return H @ block, from the record where it is the next one there.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        known = self.journal.recall(block.T)
        if known is None:
            known = self._operator.multiply(block).T
            self.journal.record(block.T, known)
        return known.T


def recorded(H: SymmetricOperator, checkpoint: "Path | str | None", settings: dict[str, Any]) -> SymmetricOperator:
    """Return H, its products recorded where a folder is given.

    Args:
        H: the operator.
        checkpoint: the folder, or None.
        settings: plain values that make the work the work it is.

    Returns:
        The operator.
    """
    return H if checkpoint is None else RecordedOperator(H, Path(checkpoint), settings)


def resumed(
    H: SymmetricOperator,
    checkpoint: "Path | str | None",
    settings: dict[str, Any],
    kind: type[Result],
    make: Callable[[SymmetricOperator], Result],
    generator: torch.Generator,
) -> Result:
    """Return what a work with H makes, from a folder where it was finished there, else from its recorded products.

    A finished work keeps its result and forgets its products. It leaves the generator as the work itself does, so that
    what draws from it afterwards draws the same.

    Args:
        H: the operator.
        checkpoint: the folder, or None.
        settings: plain values that make the work the work it is.
        kind: the class of the result, of numbers, texts, tuples and such classes alone.
        make: the work.
        generator: what the work draws from, on the CPU; its state is one of the settings.

    Returns:
        The result.

    Raises:
        LoadError: if the folder holds other work or is damaged, or its result is of another version.
    """
    if checkpoint is None:
        return make(H)
    operator = RecordedOperator(H, Path(checkpoint), settings | {"seed": generator_digest(generator)})
    finished = operator.journal.finished()
    if finished:
        plain, state = finished
        try:
            result = from_plain(kind, plain)
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(
                f"{checkpoint} holds a result of another version of liftscape; name another folder, or delete this "
                "checkpoint to begin anew."
            ) from error
        generator.set_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))
        return result
    result = make(operator)
    operator.journal.finish([result.to_dict(), generator.get_state().numpy().tobytes().hex()])
    return result


def generator_digest(generator: torch.Generator) -> int:
    """Return a number that tells the generator's state apart from others.

    Args:
        generator: on the CPU.

    Returns:
        The number.
    """
    state = generator.get_state().to(torch.int64)
    weights = torch.arange(1, len(state) + 1) * 2_654_435_761 % 2_147_483_647
    return int((state * weights).sum() % 2_147_483_647)
