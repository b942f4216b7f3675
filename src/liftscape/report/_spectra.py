"""Spectra as columns of marks on one symmetric-log axis, zeros gathered in a band."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from liftscape.report._style import MUTED, SERIES, new_panel
from liftscape.studies.embedding_principle_records import Spectrum

__all__ = ["draw_spectra"]

_COLUMN_WIDTH = 0.62
_DECADES_SHOWN = 6


def draw_spectra(title: str, spectra: Sequence[Spectrum]) -> Figure:
    """Draw each spectrum as a column; eigenvalues that count as zero lie spread out in the band at zero.

    Args:
        title: what the panel shows.
        spectra: one column each, from left to right.

    Returns:
        The figure.
    """
    counted = [abs(value) for spectrum in spectra for value in _counted(spectrum)]
    linear = 10.0 ** (math.floor(math.log10(min(counted))) if counted else -_DECADES_SHOWN)
    linear = max(linear, max(counted, default=1.0) * 10.0**-_DECADES_SHOWN)
    figure, axes = new_panel(
        title, "numbers of (negative, zero, positive) eigenvalues, verdict", "eigenvalue of the Hessian"
    )
    axes.set_yscale("symlog", linthresh=linear, linscale=0.7)
    axes.axhspan(-linear / 2, linear / 2, color=MUTED, alpha=0.16, linewidth=0)
    for column, spectrum in enumerate(spectra):
        _draw_column(axes, column, spectrum, linear)
    axes.set_xlim(-0.6, len(spectra) - 0.4)
    largest = max(counted, default=1.0)
    smallest = min((value for spectrum in spectra for value in spectrum.eigenvalues), default=0.0)
    axes.set_ylim(smallest * 4 if smallest < -linear else -linear * 1.5, largest * 4)
    axes.set_xticks(range(len(spectra)), [_column_title(spectrum) for spectrum in spectra])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(_round_ticks(linear, axes.get_ylim()))
    return figure


def _counted(spectrum: Spectrum) -> list[float]:
    """Return the eigenvalues that are not zero."""
    return [value for value in spectrum.eigenvalues if abs(value) > spectrum.tolerance]


def _draw_column(axes: Axes, column: int, spectrum: Spectrum, linear: float) -> None:
    """Draw one spectrum: zeros as open marks in the band, the others as filled ones."""
    zeros = len(spectrum.eigenvalues) - len(_counted(spectrum))
    for sign, colour, marker in ((-1, SERIES["orange"], "v"), (1, SERIES["blue"], "o")):
        values = [value for value in _counted(spectrum) if value * sign > 0]
        axes.plot(
            _abreast(column, values), values, marker, color=colour, markersize=5.5, markeredgewidth=0, linestyle="none"
        )
    rows = math.ceil(zeros / 12)
    for row in range(rows):
        count = min(12, zeros - 12 * row)
        height = linear * (0.5 * (row + 0.5) / rows - 0.25) if rows > 1 else 0.0
        places = _evenly(column, count)
        axes.plot(places, [height] * count, "o", color=MUTED, markersize=3.6, fillstyle="none", linestyle="none")


def _evenly(column: int, count: int) -> list[float]:
    """Return places spread evenly over a column's width."""
    if count == 1:
        return [float(column)]
    step = min(_COLUMN_WIDTH / (count - 1), 0.07)
    return [column + step * (index - (count - 1) / 2) for index in range(count)]


def _abreast(column: int, values: Sequence[float]) -> list[float]:
    """Return places side by side for eigenvalues too close to be told apart when drawn on one another."""
    places: list[float] = []
    rank = 0
    for index, value in enumerate(values):
        close = index > 0 and 0.77 < abs(values[index - 1] / value) < 1.3
        rank = rank + 1 if close else 0
        places.append(column + 0.075 * ((rank + 1) // 2) * (-1 if rank % 2 else 1))
    return places


def _column_title(spectrum: Spectrum) -> str:
    """Name a column, its counts and its verdict."""
    return "{}\n({}, {}, {})\n{}".format(spectrum.label, *spectrum.inertia, _two_lines(spectrum.kind))


def _two_lines(kind: str) -> str:
    """Break a long verdict so that columns keep apart."""
    return kind.replace("degenerate ", "degenerate\n") if len(kind) > 16 else kind + "\n"


def _round_ticks(linear: float, limits: tuple[float, float]) -> FixedLocator:
    """Return ticks at zero and at powers of ten, every second one where there are many."""
    lowest = math.ceil(math.log10(linear))
    ticks = [0.0]
    for sign, limit in ((1, limits[1]), (-1, -limits[0])):
        highest = math.floor(math.log10(limit)) if limit > linear else lowest - 1
        step = 1 if highest - lowest < 4 else 2
        ticks += [sign * 10.0**power for power in range(lowest, highest + 1, step)]
    return FixedLocator(ticks)
