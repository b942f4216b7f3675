"""What the degeneracy study found, as claims, a table and charts."""

from collections.abc import Mapping, Sequence
from typing import Any

from liftscape.studies.degeneracy_settings import Settings
from liftscape.studies.findings import Chart, Claim, Findings, Series, Table, Verdict

__all__ = ["summarise"]

Row = Mapping[str, Any]


def summarise(config: Settings, size: str, rows: Mapping[str, Sequence[Row]]) -> Findings:
    """Return claims, table and charts.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    lifted = [row for part in rows.values() for row in part if "refused" not in row]
    decided = [row for row in lifted if row["decided"]]
    sharp = [row for row in decided if row["exact"]]
    loose = [row for row in decided if not row["exact"]]
    minima = [row for row in decided if row["planted"] == "minimum" and row["before"][0] == 0]
    gained = [row for row in sharp if row["gained"] == row["dimension"]]
    descending = sum(row["measured"][0] > 0 for row in minima)
    claims = (
        _counted(
            "A lifted critical point has the inertia (n₋, n₀ + ΔM, n₊), ΔM the parameters added.",
            "derived (T4, corank 0)",
            sharp,
            [row for row in sharp if row["as_predicted"]],
            len([row for row in lifted if row["exact"]]),
        ),
        _counted(
            "Where factors are rank-deficient, n₋ and n₊ fall by at most the corank of the chart.",
            "derived (T4, corank > 0)",
            loose,
            [row for row in loose if row["as_predicted"]],
            len([row for row in lifted if not row["exact"]]),
        ),
        _counted(
            "The zeros gained are exactly the dimension of the lifted manifold.",
            "paper: degree of degeneracy; derived (T4)",
            sharp,
            gained,
            len([row for row in lifted if row["exact"]]),
        ),
        Claim(
            "An exact lift in the interior of the pieces never turns a minimum into a strict saddle.",
            "derived (T5), against the paper's first abstracts",
            "no lifted minimum has a negative eigenvalue",
            f"{descending} of {len(minima)} decided ones have",
            "holds" if not descending and minima else "does not hold",
        ),
    )
    return Findings(
        "degeneracy",
        "Are inertia and dimension of lifted critical points those that the theory predicts?",
        size,
        config.seeds,
        claims,
        (_table(lifted),),
        (_dimensions(sharp), _negatives(decided), _gaps(lifted)),
    )


def _counted(statement: str, source: str, decided: Sequence[Row], good: Sequence[Row], tried: int) -> Claim:
    """Return a claim that must hold in every decided case."""
    verdict: Verdict = "undecided" if not decided else "holds" if len(good) == len(decided) else "does not hold"
    seen = f"{len(good)} of {len(decided)} decided points, {tried - len(decided)} of {tried} undecided"
    return Claim(statement, source, "every decided point", seen, verdict)


def _table(rows: Sequence[Row]) -> Table:
    """Return counts by activation, layers and kind of chart."""
    keys = sorted({(row["activation"], row["layers"], row["corank"] > 0) for row in rows})
    made = []
    for activation, layers, deficient in keys:
        own = [
            row
            for row in rows
            if (row["activation"], row["layers"], row["corank"] > 0) == (activation, layers, deficient)
        ]
        decided = [row for row in own if row["decided"]]
        made.append({
            "activation": activation + (" (tail)" if own[0]["tail"] else ""),
            "inserted layers": layers,
            "chart": "corank > 0" if deficient else "corank 0",
            "points": len(own),
            "undecided": len(own) - len(decided),
            "as predicted": sum(row["as_predicted"] for row in decided),
            "wrong": sum(not row["as_predicted"] for row in decided),
            "largest output gap": f"{max(row['output_gap'] for row in own):.0e}",
            "largest ‖∇R‖": f"{max(row['gradient_norm'] for row in own):.0e}",
        })
    return Table("points", "Lifted points by activation and depth", tuple(made))


def _dimensions(rows: Sequence[Row]) -> Chart:
    """Draw the zeros gained against the dimension of the manifold."""
    layers = sorted({row["layers"] for row in rows})
    ends = [
        float(value)
        for value in (
            min((row["dimension"] for row in rows), default=0),
            max((row["dimension"] for row in rows), default=1),
        )
    ]
    series = [Series("equal", tuple(ends), tuple(ends), "faint", 5)]
    for group, count in enumerate(layers):
        own = [row for row in rows if row["layers"] == count]
        label = f"{count} layer{'s' if count > 1 else ''}"
        series.append(
            Series(
                label,
                tuple(float(row["dimension"]) for row in own),
                tuple(float(row["gained"]) for row in own),
                "points",
                group,
            )
        )
    return Chart(
        "dimensions",
        "Zeros gained = dimension of the manifold",
        "dimension of the lifted manifold, predicted",
        "zero eigenvalues gained, measured",
        tuple(series),
        "Each point is one lifted critical point. On the line, the eigenvalues that became zero are exactly as many as "
        "the lifted manifold has dimensions.",
    )


def _negatives(rows: Sequence[Row]) -> Chart:
    """Draw the negative eigenvalues after against before."""
    top = float(max((row["before"][0] for row in rows), default=1))
    series = [Series("equal", (0.0, top), (0.0, top), "faint", 5)]
    for group, (label, deficient) in enumerate((("corank 0", False), ("corank > 0", True))):
        own = [row for row in rows if (row["corank"] > 0) == deficient]
        if own:
            series.append(
                Series(
                    label,
                    tuple(float(row["before"][0]) for row in own),
                    tuple(float(row["measured"][0]) for row in own),
                    "points",
                    group,
                )
            )
    return Chart(
        "negatives",
        "Negative eigenvalues, before and after",
        "n₋ of the shallow point",
        "n₋ of the lifted point",
        tuple(series),
        "No point lies above the line: lifting adds no direction of descent. Points below it have rank-deficient "
        "factors, where some are lost.",
    )


def _gaps(rows: Sequence[Row]) -> Chart:
    """Draw how exact outputs and curvature are, sorted."""
    names = (
        ("outputs on the data", "output_gap"),
        ("gradient norm", "gradient_norm"),
        ("H′ − JᵀHJ, relative", "hessian_gap"),
    )
    series = []
    for group, (label, key) in enumerate(names):
        values = sorted(max(float(row[key]), 1e-18) for row in rows if row[key] is not None)
        shares = tuple((index + 1) / len(values) for index in range(len(values)))
        series.append(Series(label, tuple(values), shares, "line", group))
    return Chart(
        "gaps",
        "How exact lifted points are",
        "gap",
        "share of the points with at most this gap",
        tuple(series),
        "All gaps are rounding: outputs, gradient and curvature of the lifted networks are as the theory gives them.",
        log_x=True,
    )
