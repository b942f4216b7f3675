"""Names of the user's in figures: drawn as they are, never read as mathematics, and cut where they are too long."""

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from liftscape._text import printable

__all__ = ["label_of", "plain_texts"]

_LONGEST, _LONGEST_LABEL = 160, 60


def plain_texts(figure: Figure) -> None:
    """Let all texts of a figure stand for themselves; labels of powers of ten stay as they are.

    Args:
        figure: any, changed in place; once, since names on an axis are escaped.
    """
    axes = [axis for own in figure.axes for axis in (own.xaxis, own.yaxis)]
    for axis in axes:
        formatter = axis.get_major_formatter()
        if isinstance(formatter, (FixedFormatter, FuncFormatter)):
            escaped = lambda value, place, given=formatter: _short(given(value, place)).replace("$", r"\$")
            axis.set_major_formatter(FuncFormatter(escaped))
    # Ticks are made when they are asked for, and later ones copy those that are there.
    ticks = [tick for axis in axes for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    labels = {id(label) for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in labels:
            text.set_parse_math(False)
            text.set_text(_short(text.get_text()))


def label_of(text: str) -> str:
    """Return a name as the label of a line, cut in its middle; a legend leaves out what begins with an underscore.

    Args:
        text: the name.

    Returns:
        The label.
    """
    cut = text if len(text) <= _LONGEST_LABEL else f"{text[:30]}…{text[30 - _LONGEST_LABEL :]}"
    return f"\u200b{cut}" if cut.startswith("_") else cut


def _short(text: str) -> str:
    """Return a text that can be drawn, line by line."""
    lines = [line if len(line) <= _LONGEST else f"{line[: _LONGEST - 40]}…{line[-39:]}" for line in text.split("\n")]
    return printable("\n".join(lines))
