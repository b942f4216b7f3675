"""From a matplotlib figure to bytes that are the same every time: SVG for the page, SVG and PNG as files."""

import io
import re
import warnings
from dataclasses import dataclass
from html import escape

from markupsafe import Markup
from matplotlib.figure import Figure

from liftscape._text import printable
from liftscape.report._plain_texts import plain_texts
from liftscape.report._style import THEMED, figure_style

__all__ = ["Panel", "render"]

_DOTS_PER_INCH = 160


@dataclass(frozen=True)
class Panel:
    """One drawn panel.

    Attributes:
        name: file name without suffix, unique in the report.
        title: what it shows.
        alt: what a reader who cannot see it should know.
        inline: SVG element for the page, themed by CSS variables.
        svg: the SVG file.
        png: the PNG file.
    """

    name: str
    title: str
    alt: str
    inline: Markup
    svg: bytes
    png: bytes


def render(name: str, figure: Figure, alt: str) -> Panel:
    """Save a figure as SVG and PNG without dates, and make the SVG ready to stand inside a page.

    Args:
        name: file name without suffix.
        figure: the figure; the title of its first axes names the panel.
        alt: text for readers who cannot see it.

    Returns:
        The panel.
    """
    svg, png = io.BytesIO(), io.BytesIO()
    with figure_style(), warnings.catch_warnings():
        # A glyph that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        plain_texts(figure)
        title = figure.axes[0].get_title(loc="left")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
        figure.savefig(png, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    drawn, place, alt = svg.getvalue().decode("utf-8"), re.sub(r"[^\w.-]", "-", name), printable(alt)
    described = lambda own: _describe(own, place, title, alt)
    return Panel(
        name, title, alt, Markup(described(_inline(drawn, place))), described(drawn).encode("utf-8"), png.getvalue()
    )


def _describe(svg: str, name: str, title: str, alt: str) -> str:
    """Give the SVG a title and a description that screen readers announce."""
    opening = re.search(r"<svg\b[^>]*>", svg)
    assert opening is not None
    labelled = opening.group()[:-1] + f' role="img" aria-labelledby="{name}-title {name}-desc">'
    texts = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(alt)}</desc>'
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(opening.group(), labelled + texts, 1)


def _inline(svg: str, name: str) -> str:
    """Drop the XML prolog and comments, make ids unique on the page, and hand the colours to the page's theme."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'\bid="(?!{re.escape(name)}-)([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    for colour, variable in THEMED.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg)
