"""What the commands print: tables for people, JSON for machines, progress for a terminal."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from liftscape._files import write_atomically
from liftscape._text import as_bytes, printable

__all__ = [
    "as_json",
    "as_text",
    "facts",
    "interrupted_as",
    "progress",
    "show",
    "table",
    "tell",
    "user_output_aside",
    "write_json",
]

_WIDTH_IN_A_PIPE = 160


def show(*parts: Any) -> None:
    """Print tables and sentences to stdout; a reader who has left is no error.

    Args:
        parts: what rich can print.
    """
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE, highlight=False)
    # Rich would end the process where the reader has left.
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False)
    _write(captured.get())


def write_json(value: Mapping[str, Any], out: Path | None = None) -> None:
    """Print a value as JSON to stdout, or write it to a file.

    Args:
        value: plain values.
        out: a file; its folder is made if it does not exist.
    """
    text = as_json(value)
    if out is None:
        _write(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, as_bytes(text))


def as_json(value: Mapping[str, Any]) -> str:
    """Return a value as JSON that ends with a line break.

    Args:
        value: plain values.

    Returns:
        The text.
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return rows as a table; numbers stand to the right.

    Args:
        title: above it.
        columns: their names.
        rows: one value for each column.

    Returns:
        The table.
    """
    made = Table(title=Text(printable(title)), title_justify="left", show_edge=False)
    listed = [list(row) for row in rows]
    for index, name in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], (int, float)) for row in listed)
        made.add_column(as_text(name), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        made.add_row(*(as_text(value) for value in row))
    return made


def facts(title: str, values: Mapping[str, Any]) -> Table:
    """Return named values as a table of two columns, without those that are None.

    Args:
        title: above it.
        values: by name.

    Returns:
        The table.
    """
    made = Table(title=Text(printable(title)), title_justify="left", show_edge=False, show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            made.add_row(as_text(name), as_text(value))
    return made


def tell(sentence: str) -> None:
    """Print a sentence to stderr, where it is no part of the result.

    Args:
        sentence: what to say.
    """
    print(printable(sentence), file=sys.stderr, flush=True)


@contextmanager
def progress(label: str) -> Generator[Callable[..., None]]:
    """Show a bar on stderr while the context lasts if stderr is a terminal, and nothing otherwise.

    Args:
        label: what is being done.

    Yields:
        A callable(done, total, what) that moves the bar; a last argument None keeps the label.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda _done, _total, _what=None: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, total: int, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what or label)

        yield advance


@contextmanager
def interrupted_as(what: str) -> Generator[None]:
    """Say what Ctrl-C left on the disk if it comes while the context lasts.

    Args:
        what: a sentence's end, such as "x may be incomplete".

    Raises:
        KeyboardInterrupt: the same interrupt, with what was left as its argument.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*(interrupt.args or (what,))) from None


@contextmanager
def user_output_aside() -> Generator[None]:
    """Send what a user's code prints to stderr, so that stdout holds nothing but the result."""
    with redirect_stdout(sys.stderr):
        yield


def _write(text: str) -> None:
    """Write to stdout; where the reader has left, the rest of the output goes nowhere."""
    text = as_bytes(text).decode("utf-8")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end, which must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_text(value: Any) -> str:
    """Write numbers with the digits that matter.

    Args:
        value: of a table.

    Returns:
        The text.
    """
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(as_text(entry) for entry in value)
    return printable(str(value))
