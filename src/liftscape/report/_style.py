"""One look for every figure: colours that a colour-blind reader can tell apart, and that follow the page's theme."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "PAPER", "SERIES", "THEMED", "figure_style", "new_panel"]

INK = "#1b1f24"
MUTED = "#6b7480"
GRID = "#d9dde2"
PAPER = "#fefefe"
# Okabe and Ito's palette, told apart under the common colour deficiencies.
SERIES = {"blue": "#0072b2", "orange": "#d55e00", "green": "#009e73", "purple": "#a2548b", "sky": "#3d9fd4"}

# Inside the page these colours become CSS variables, so that a dark theme can choose its own.
THEMED = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", **{value: key for key, value in SERIES.items()}}

_WIDTH, _HEIGHT = 5.2, 3.9
_SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "mathtext.fontset": "dejavusans",
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "liftscape",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.5,
}


@contextmanager
def figure_style() -> Generator[None]:
    """Draw with matplotlib's own defaults and this style, whatever the user has set.

    Yields:
        Nothing; the user's settings are restored on exit.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_panel(title: str, x: str, y: str, height: float = _HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure with one labelled set of axes.

    Args:
        title: what the panel shows.
        x: meaning and unit of the horizontal axis.
        y: meaning and unit of the vertical axis.
        height: in inches.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
