"""What a study returns: claims with their verdicts, tables and charts as plain values."""

from dataclasses import dataclass
from typing import Any, Literal

from liftscape.outcomes import Outcome

__all__ = ["Chart", "Claim", "Findings", "HeatMap", "Series", "Table", "Verdict"]

Verdict = Literal["holds", "holds under these conditions", "does not hold", "undecided"]
Role = Literal["line", "faint", "bold", "points", "level"]


@dataclass(frozen=True)
class Claim(Outcome):
    """One claim, and what came of it.

    Attributes:
        statement: the claim in one sentence.
        source: where it is made: the paper, its companions, or derived here.
        expected: what would be seen if it held.
        seen: what was seen, with numbers.
        verdict: whether they agree.
    """

    statement: str
    source: str
    expected: str
    seen: str
    verdict: Verdict


@dataclass(frozen=True)
class Table(Outcome):
    """Rows of named values.

    Attributes:
        name: unique in the study.
        title: above it.
        rows: one value for each column, by name.
    """

    name: str
    title: str
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Series(Outcome):
    """One curve or cloud of a chart.

    Attributes:
        label: for the legend; "" for none.
        x: horizontal values; of a level, nothing.
        y: vertical values; of a level, its one value.
        role: "line", "faint" (one seed among many), "bold" (their median), "points", or "level".
        group: series of one group share a colour.
        low: lower ends of a spread, or nothing.
        high: upper ends of it.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    role: Role = "line"
    group: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart(Outcome):
    """A picture of some series.

    Attributes:
        name: file name without suffix, unique in the study.
        title: what it shows.
        x: meaning and unit of the horizontal axis.
        y: meaning and unit of the vertical axis.
        series: drawn in this order.
        caption: what one sees, in plain words.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is.
    """

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    caption: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class HeatMap(Outcome):
    """Values of several rows over one axis, as colours.

    Attributes:
        name: file name without suffix, unique in the study.
        title: what it shows.
        x: meaning and unit of the horizontal axis.
        y: what the rows are.
        value: meaning and unit of the colours, which run from 0 to 1.
        columns: horizontal values.
        rows: names of the rows, the first one on top.
        values: one tuple for each row; NaN stays blank.
        caption: what one sees, in plain words.
    """

    name: str
    title: str
    x: str
    y: str
    value: str
    columns: tuple[float, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    caption: str


@dataclass(frozen=True)
class Findings(Outcome):
    """All that a study found.

    Attributes:
        study: its name.
        question: what it asks, in one sentence.
        size: "full" or "toy".
        runs: how many independent runs stand behind it.
        claims: with their verdicts.
        tables: the numbers.
        charts: the pictures.
    """

    study: str
    question: str
    size: str
    runs: int
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart | HeatMap, ...]
