"""What the depth-dynamics study found, as claims, a table and charts."""

from collections.abc import Mapping, Sequence
from typing import Any

from liftscape.studies.depth_dynamics_settings import Settings
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table, Verdict

__all__ = ["summarise"]

# A claim about most plateaus is one about more than this share of them.
_MOST = 0.9
# Below this share it is a claim about exceptions, however far beyond chance they are.
_MANY = 0.5
Row = Mapping[str, Any]


def summarise(config: Settings, size: str, rows: Mapping[str, Row]) -> Findings:
    """Return claims, table and charts.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    every = list(rows.values())
    claims = tuple(_claim(name, [row for row in every if row["data"] == name]) for name in config.data)
    table = Table("plateaus", "Plateaus by data and depth", tuple(_row(row) for row in every))
    charts = [_curves(config, row) for row in every]
    return Findings(
        "depth-dynamics",
        "Do deep networks on their way stay at critical points of shallower ones?",
        size,
        config.seeds,
        claims,
        (table,),
        (*charts, _shares(every)),
    )


def _claim(name: str, rows: Sequence[Row]) -> Claim:
    """Judge one data set by the share of plateaus whose loss is a critical value, against levels drawn at random."""
    way = [(row["chance"], plateau) for row in rows for plateau in row["plateaus"] if not plateau["ends"]]
    count = max(1, len(way))
    both = sum(bool(plateau["matched"]) for _, plateau in way) / count
    loss = sum(plateau["near"] for _, plateau in way) / count
    chance = sum(share for share, _ in way) / count
    verdict: Verdict = "undecided"
    if way:
        beyond = loss - chance > 3 * (chance * (1 - chance) / count) ** 0.5
        verdict = (
            "does not hold"
            if not beyond or both < _MANY
            else "holds"
            if both > _MOST
            else "holds under these conditions"
        )
    return Claim(
        f"On their way, deep networks trained from small weights stay at critical points of shallower ones: {name}.",
        "paper: what the embedding principle means for training",
        f"over {_MOST:.0%} of the plateaus match in loss and outputs (under {_MANY:.0%}, it does not hold), and more "
        "in loss than random levels would",
        f"of {len(way)} plateaus before the end {both:.0%} match in loss and outputs, {loss:.0%} in loss alone, where "
        f"levels drawn at random match {chance:.0%}",
        verdict,
    )


def _row(row: Row) -> dict[str, Any]:
    """Return one data set and depth as a row."""
    way = [plateau for plateau in row["plateaus"] if not plateau["ends"]]
    matched = [plateau for plateau in way if plateau["matched"]]
    names = sorted({plateau["matched"] for plateau in matched})
    r2 = [min(plateau["r2"]) for plateau in matched if plateau["r2"]]
    ends = [plateau for plateau in row["plateaus"] if plateau["ends"]]
    return {
        "data": row["data"],
        "hidden layers": row["depth"],
        "plateaus on the way": len(way),
        "matched": f"{len(matched)} ({len(matched) / len(way):.0%})" if way else "0",
        "in loss alone": f"{sum(plateau['near'] for plateau in way) / max(1, len(way)):.0%}",
        "in loss by chance": f"{row['chance']:.0%}",
        "critical points met": ", ".join(names) or "none",
        "median of the least R² of a layer there": f"{sorted(r2)[len(r2) // 2]:.3f}" if r2 else "",
        "ends on a plateau": len(ends),
        "of these matched": sum(bool(plateau["matched"]) for plateau in ends),
    }


def _curves(config: Settings, row: Row) -> Chart:
    """Draw the losses of one data set and depth with the shallow levels that were met."""
    steps = tuple(float(step) for step in row["steps"])
    series = [
        Series("seeds" if index == 0 else "", steps, tuple(curve), "faint", 0)
        for index, curve in enumerate(row["curves"])
    ]
    series.append(Series("median", steps, tuple(row["median"]), "bold", 0))
    met = [plateau["matched"] for plateau in row["plateaus"] if plateau["matched"]]
    often = sorted(set(met), key=met.count, reverse=True)[:4]
    series += [
        Series(level["name"], (), (level["value"],), "level") for level in row["levels"] if level["name"] in often
    ]
    return Chart(
        f"{row['data']}-{row['depth']}",
        f"{row['data']}, {row['depth']} hidden layers",
        "gradient step",
        "training loss (mean squared error)",
        tuple(series),
        f"Training losses of {len(row['curves'])} of {config.seeds} networks and the median of all; dashed, the "
        "critical values of shallower networks that plateaus matched most often.",
        log_y=True,
    )


def _shares(rows: Sequence[Row]) -> Chart:
    """Draw the matched share against depth, with the share expected by chance."""
    series = []
    for group, name in enumerate(dict.fromkeys(row["data"] for row in rows)):
        own = [row for row in rows if row["data"] == name]
        x = tuple(float(row["depth"]) for row in own)
        way = [[plateau for plateau in row["plateaus"] if not plateau["ends"]] for row in own]
        shares = tuple(sum(bool(plateau["matched"]) for plateau in each) / max(1, len(each)) for each in way)
        spread = [2 * (share * (1 - share) / max(1, len(each))) ** 0.5 for share, each in zip(shares, way, strict=True)]
        low = tuple(share - width for share, width in zip(shares, spread, strict=True))
        high = tuple(share + width for share, width in zip(shares, spread, strict=True))
        series.append(Series(f"{name}, matched", x, shares, "bold", group, low, high))
        series.append(Series(f"{name}, by chance", x, tuple(row["chance"] for row in own), "faint", group))
    return Chart(
        "shares",
        "Plateaus that match a shallow critical point",
        "hidden layers of the trained network",
        "share of the plateaus before the end",
        tuple(series),
        "Bold: matched in loss and outputs, with two standard errors. Faint: what levels drawn at random would match "
        "in loss alone.",
    )
