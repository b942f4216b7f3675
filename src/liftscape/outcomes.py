"""Errors that teach, and outcomes that turn into JSON.

Misuse raises a :class:`LiftscapeError`; a numerical outcome is a frozen :class:`Outcome`.
"""

import dataclasses
import json
import math
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import nn

from liftscape._display import as_html, as_lines, as_repr, flat

__all__ = [
    "ActivationError",
    "DataError",
    "EmbeddingError",
    "LiftscapeError",
    "LoadError",
    "MissingPackageError",
    "ModelError",
    "NotFiniteError",
    "NotStuckError",
    "Outcome",
    "SiteError",
    "TableOutcome",
    "from_plain",
    "to_plain",
]


class LiftscapeError(Exception):
    """Base of every error that liftscape raises on misuse."""


class DataError(LiftscapeError, ValueError):
    """The data cannot be used: not finite, of unequal length, empty, or not re-iterable."""


class ModelError(LiftscapeError, ValueError):
    """The model or the loss cannot be used as a deterministic function of its parameters."""


class ActivationError(LiftscapeError, ValueError):
    """The activation has no affine piece or tail of the kind asked for."""


class SiteError(LiftscapeError, ValueError):
    """The named map does not exist or is not a place where a layer can be inserted or removed."""


class EmbeddingError(LiftscapeError, ValueError):
    """The embedding asked for does not exist, as with a width below the rank of the map."""


class NotFiniteError(LiftscapeError, ArithmeticError):
    """A number that the work stands on is infinite or not a number."""


class NotStuckError(LiftscapeError, ValueError):
    """There is nothing to escape from: the gradient still leads down, or the residual is zero."""


class LoadError(LiftscapeError, ValueError):
    """A file named by the user cannot be read as what it should be."""


class MissingPackageError(LiftscapeError, ImportError):
    """A package that only some uses need is not installed."""


def to_plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: tensors to lists, non-finite numbers to names, modules to their class.

    Args:
        value: any nesting of outcomes, dataclasses, mappings, sequences, tensors and scalars.

    Returns:
        The same nesting of dict, list, str, int, float, bool and None.

    Example:
        >>> to_plain({"gap": torch.tensor(0.5), "margin": float("inf")})
        {'gap': 0.5, 'margin': 'inf'}
    """
    if isinstance(value, torch.Tensor):
        return to_plain(value.detach().cpu().tolist())
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, Outcome):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(entry) for entry in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def from_plain(kind: Any, value: Any) -> Any:
    """Turn what :func:`to_plain` made of a dataclass of numbers, texts, tuples and such dataclasses back into it.

    Args:
        kind: the dataclass, or the type of one of its fields.
        value: the plain value.

    Returns:
        A value that equals the one that was made plain.

    Example:
        >>> from_plain(tuple[float, float], [1.0, "inf"])
        (1.0, inf)
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{
            field.name: from_plain(hints[field.name], value[field.name]) for field in dataclasses.fields(kind)
        })
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        several = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return tuple(from_plain(each, entry) for each, entry in zip(several, value, strict=True))
    return float(value) if kind is float else value


class Outcome:
    """Mixin of the frozen dataclasses that verbs return: what they are as text, as HTML in a notebook, and as JSON."""

    def __init_subclass__(cls) -> None:
        # A dataclass would write its own, which prints every tensor and module in it.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Outcome.__repr__

    def __repr__(self) -> str:
        """Return the fields in one line, long values by their kind and size."""
        return as_repr(self)

    def __str__(self) -> str:
        """Return a few lines: what it is, its numbers, its reason and advice."""
        return as_lines(self)

    def _repr_html_(self) -> str:
        """Return the values as a table, which notebooks show, with a figure where there is one."""
        return as_html(self, figure=self._figure())

    def _figure(self) -> str:
        """Return an SVG element, or nothing."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; modules are named by their class.

        Returns:
            A dict that :mod:`json` can write.
        """
        assert dataclasses.is_dataclass(self)
        return {field.name: to_plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def to_json(self, indent: int | None = 2) -> str:
        """Return the fields as a JSON text with sorted keys.

        Args:
            indent: spaces per level, or None for one line.

        Returns:
            The JSON text.
        """
        return json.dumps(self.to_dict(), indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)


class TableOutcome(Outcome):
    """Mixin of outcomes that are tables: their rows as dicts, which pandas reads."""

    # The field that holds the rows.
    _rows = "rows"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict for each row: columns to numbers and texts, those of a value within a row as "value.field".

        Returns:
            What ``pandas.DataFrame`` takes.
        """
        return [flat(row) for row in getattr(self, self._rows)]

    def __str__(self) -> str:
        """Return a few lines: what it is, its numbers, its first rows, its reason and advice."""
        return as_lines(self, self.to_dicts())

    def _repr_html_(self) -> str:
        """Return the values and the rows as tables, with a figure where there is one."""
        return as_html(self, self.to_dicts(), self._figure())
