"""What every report shares: one offline page that loads nothing, its figures as files, and the result as JSON."""

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from liftscape._files import write_atomically
from liftscape._text import as_bytes, printable
from liftscape.outcomes import LoadError
from liftscape.report._captions import power_of_ten
from liftscape.report._svg import Panel

__all__ = ["check_folder", "render_page", "write_report"]

_PAGE, _RESULT = "report.html", "result.json"
_BRAND = b'<p class="brand">liftscape'


def render_page(template: str, **values: Any) -> str:
    """Return a report as one HTML page.

    Args:
        template: name of the template that extends ``page.html``.
        **values: what it shows.

    Returns:
        The page.
    """
    environment = Environment(
        loader=PackageLoader("liftscape.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ten"] = power_of_ten
    templates = files("liftscape.report") / "templates"
    page = environment.get_template(template).render(
        **values,
        style=Markup((templates / "page.css").read_text(encoding="utf-8")),
        script=Markup((templates / "page.js").read_text(encoding="utf-8")),
    )
    return printable(page)


def check_folder(out: Path) -> None:
    """Raise if a report cannot be written into a folder, or would replace a page that is none of ours.

    Args:
        out: the folder, there or not.

    Raises:
        LoadError: if it is a file, may not be written to, or holds another ``report.html``.
    """
    above = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not above.is_dir():
        raise LoadError(f"{above} is a file; name a folder for the report.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise LoadError(f"{above} may not be written to; name another folder for the report.")
    page = out / _PAGE
    if page.exists() and _BRAND not in page.read_bytes():
        raise LoadError(
            f"{page} exists and is no report of liftscape's, so it is not overwritten; name another folder."
        )


def write_report(out: Path, page: str, panels: Mapping[str, Sequence[Panel]], result: str) -> Path:
    """Write ``report.html`` (one file), its figures as SVG and PNG, and ``result.json``: same result, same bytes.

    Every file is written beside its place and moved there, the page last, so that a report is never half there.

    Args:
        out: the folder; made if it does not exist.
        page: the HTML.
        panels: the figures by section.
        result: what the page shows, as JSON.

    Returns:
        The path of the page.

    Raises:
        LoadError: if the folder cannot take it.
    """
    check_folder(out)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for group in panels.values():
        for panel in group:
            write_atomically(figures / f"{panel.name}.svg", panel.svg)
            write_atomically(figures / f"{panel.name}.png", panel.png)
    write_atomically(out / _RESULT, as_bytes(result))
    write_atomically(out / _PAGE, page.encode("utf-8"))
    return out / _PAGE
