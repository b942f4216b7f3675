"""How outcomes are shown: a repr of one line, a few lines of text, a table in HTML for notebooks."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from torch import Tensor, nn

from liftscape._text import printable

__all__ = ["as_html", "as_lines", "as_repr", "flat"]

# A repr of at most this length is shown in full, as one line of a terminal or so.
_LINE = 160
_VALUE = 100
_ENTRIES = 8
_ROWS = 50
_FEW = 3
# What an outcome says in one word, and what it says in sentences.
_HEADLINES = ("status", "kind", "state", "verdict")
_SENTENCES = ("reading", "reason", "advice")


def as_repr(outcome: Any) -> str:
    """Return `Name(field=value, …)` with long values cut, so that no tensor or module is printed in full.

    Args:
        outcome: a dataclass.

    Returns:
        One line.
    """
    shown = [(field.name, getattr(outcome, field.name)) for field in dataclasses.fields(outcome) if field.repr]
    room = max(20, min(_VALUE, 8 * _LINE // max(1, len(shown)) - 20))
    return f"{type(outcome).__name__}({', '.join(f'{name}={_brief(value, room)}' for name, value in shown)})"


def as_lines(outcome: Any, rows: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return what an outcome says in a few lines; its one-line repr where that is short.

    Args:
        outcome: a dataclass.
        rows: of a table, of which the first few are shown.

    Returns:
        The lines.
    """
    values = _values(outcome)
    whole = as_repr(outcome)
    if len(whole) <= _LINE and not rows and not any(name in values for name in _SENTENCES):
        return whole
    headline = _headline(values)
    first = type(outcome).__name__ + ("" if headline is None else f": {headline}")
    sentences = [str(values.pop(name)) for name in _SENTENCES if values.get(name)]
    facts = [f"{name} {_figure(value)}" for name, value in _facts(values).items()]
    others = [f"{name}: {_brief(value, 60)}" for name, value in values.items() if not _is_fact(value)]
    shown = [", ".join(f"{name} {_figure(value)}" for name, value in _facts(row).items()) for row in rows[:_FEW]]
    more = [f"… {len(rows) - _FEW} more rows"] if len(rows) > _FEW else []
    body = [", ".join(facts), "; ".join(others), *shown, *more, *sentences]
    return "\n  ".join(printable(line) for line in (first, *body) if line)


def as_html(outcome: Any, rows: Sequence[Mapping[str, Any]] = (), figure: str = "") -> str:
    """Return an outcome as HTML: its values, its rows as a table, and a figure.

    Args:
        outcome: a dataclass.
        rows: of a table, column to value; the values that hold them are left out above.
        figure: an SVG element.

    Returns:
        HTML whose texts are escaped.
    """
    values = _values(outcome)
    headline = _headline(values)
    title = type(outcome).__name__ + ("" if headline is None else f": {headline}")
    shown = {name: value for name, value in values.items() if not (rows and _is_table(value))}
    facts = "".join(
        f"<tr><th style='text-align:left'>{_cell(k)}</th><td>{_cell(v)}</td></tr>" for k, v in shown.items()
    )
    table = _table(rows) if rows else ""
    return f"<div><strong>{_cell(title)}</strong><table>{facts}</table>{table}{figure}</div>"


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the numbers and texts of a dataclass, those of dataclasses in it under names with a dot.

    Args:
        value: a dataclass, or a value in it.
        name: of the value; empty for the outermost.

    Returns:
        Column to value: numbers, texts, None, or lists of those; mappings and tables are left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {
            key: entry for own, each in inner for key, entry in flat(each, f"{name}.{own}" if name else own).items()
        }
    if isinstance(value, Tensor):
        return {name: value.detach().cpu().tolist()}
    if isinstance(value, nn.Module):
        return {name: type(value).__name__}
    # A table or a mapping within a row has no column of its own to go to.
    if isinstance(value, Mapping) or _is_table(value):
        return {}
    return {name: list(value) if isinstance(value, tuple) else value}


def _values(outcome: Any) -> dict[str, Any]:
    """Return the fields by name, without those that are None."""
    fields = ((field.name, getattr(outcome, field.name)) for field in dataclasses.fields(outcome) if field.repr)
    return {name: value for name, value in fields if value is not None}


def _headline(values: dict[str, Any]) -> str | None:
    """Take out what the outcome says in a word."""
    name = next((name for name in _HEADLINES if isinstance(values.get(name), str)), None)
    return None if name is None else values.pop(name)


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and short texts."""
    return {name: value for name, value in values.items() if _is_fact(value)}


def _is_fact(value: Any) -> bool:
    """Say whether a value is a number or a short text."""
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and 0 < len(value) <= _VALUE)


def _is_table(value: Any) -> bool:
    """Say whether a value is a sequence of dataclasses."""
    return isinstance(value, tuple) and bool(value) and all(dataclasses.is_dataclass(each) for each in value)


def _figure(value: Any) -> str:
    """Return a number with six digits, a text as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _brief(value: Any, room: int) -> str:
    """Return the repr of a value, or what kind of value it is and how large."""
    if isinstance(value, Tensor):
        few = value.numel() <= _ENTRIES and value.device.type != "meta"
        whole = " ".join(repr(value).split()) if few else ""
        return whole if 0 < len(whole) <= room else f"Tensor{list(value.shape)}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, (tuple, list, dict, set, frozenset)) and len(value) > _ENTRIES:
        return f"<{len(value)} entries>"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(_brief(each, room) for each in value)
        whole = f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        return whole if len(whole) <= room else f"<{len(value)} entries>"
    if isinstance(value, dict):
        whole = "{" + ", ".join(f"{key!r}: {_brief(each, room)}" for key, each in value.items()) + "}"
        return whole if len(whole) <= room else f"<{len(value)} entries>"
    whole = as_repr(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else repr(value)
    return whole if len(whole) <= room else f"{whole[: room - 1]}…"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as an HTML table, the first fifty of them."""
    head = "".join(f"<th>{_cell(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows[:_ROWS]
    )
    more = f"<tr><td>… {len(rows) - _ROWS} more</td></tr>" if len(rows) > _ROWS else ""
    return f"<table><tr>{head}</tr>{body}{more}</table>"


def _cell(value: Any) -> str:
    """Return a value as escaped text."""
    if isinstance(value, (float, str, int)):
        return escape(printable(_figure(value)))
    return escape(printable(_brief(value, _VALUE)))
