"""What the strict-saddle study found, as claims, tables and charts."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from liftscape.studies.findings import Chart, Claim, Findings, Series, Table, Verdict
from liftscape.studies.strict_saddle_settings import Settings

__all__ = ["EVERY", "RULES", "summarise"]

# The rules by which networks are trained, and the steps between two looks at their loss.
RULES = ("gradient descent", "SGD", "Adam")
EVERY = 10
Row = Mapping[str, Any]


def summarise(config: Settings, size: str, rows: Mapping[str, Row]) -> Findings:
    """Return claims, tables and charts.

    Args:
        config: the settings.
        size: "full" or "toy".
        rows: of every task.

    Returns:
        The findings.
    """
    by_case: dict[str, list[Row]] = {}
    for row in rows.values():
        by_case.setdefault(row["case"], []).append(row)
    finest = f"{min(config.epsilons):g}"
    inflection = [row for row in by_case["inflection"] if row["value"] == finest]
    claims = (
        _count(
            "A local minimum lifted into the interior of the affine pieces is a local minimum.",
            "derived (T5), against the paper's first abstracts",
            by_case["interior"],
            lambda row: row["kind"] == "degenerate local minimum",
        ),
        _count(
            "A local minimum can be lifted to a strict saddle: tangency, t + sin t on binary inputs.",
            "paper, first abstracts; derived (T5 d)",
            by_case["tangency"],
            lambda row: row["kind"] == "strict saddle" and row["inertia"] == [8, 4, 13],
        ),
        _conditional(
            "A width split of a layer that is not linearized turns a minimum into a strict saddle.",
            "width papers; derived (T5 c)",
            by_case["split"],
            lambda row: row["kind"] == "strict saddle",
            lambda row: row["predicted_negative"] == row["inertia"][0],
        ),
        _conditional(
            "At the boundary of the pieces, with a sample on the kink, a one-sided descent can open.",
            "derived (T5 a)",
            by_case["boundary"],
            lambda row: row["kind"] == "one-sided saddle",
            lambda row: row["kind"] == row["predicted"],
        ),
        _count(
            "Near an inflection the lift is not critical, and its n₋ is that of the third-derivative form.",
            f"derived (T7), at ε = {finest}",
            inflection,
            lambda row: row["kind"] == "not critical" and row["predicted_negative"] == row["inertia"][0],
        ),
    )
    return Findings(
        "strict-saddle",
        "When does a lifted local minimum become a strict saddle, and can training leave it?",
        size,
        config.seeds,
        claims,
        (_certificates(by_case), _training(config, by_case)),
        (_negative_chart(config, by_case["inflection"]), _leaving_chart(config, by_case)),
    )


def _count(statement: str, source: str, rows: Sequence[Row], good: Callable[[Row], bool]) -> Claim:
    """Return a claim about every case."""
    count = sum(map(good, rows))
    verdict: Verdict = "holds" if count == len(rows) and rows else "does not hold"
    return Claim(statement, source, "in every case", f"{count} of {len(rows)} cases", verdict)


def _conditional(
    statement: str, source: str, rows: Sequence[Row], good: Callable[[Row], bool], lawful: Callable[[Row], bool]
) -> Claim:
    """Return a claim that something can happen, with the law that says when."""
    count, law = sum(map(good, rows)), sum(map(lawful, rows))
    verdict: Verdict = (
        "does not hold" if not count else "holds" if count == len(rows) else "holds under these conditions"
    )
    seen = f"{count} of {len(rows)} cases; the certificate is as derived in {law}"
    return Claim(statement, source, "in some cases, as the law says", seen, verdict)


def _certificates(by_case: Mapping[str, Sequence[Row]]) -> Table:
    """Return what each case was certified to be."""
    made = []
    for case, rows in by_case.items():
        for value in dict.fromkeys(row["value"] for row in rows):
            own = [row for row in rows if row["value"] == value]
            kinds = {
                kind: sum(row["kind"] == kind for row in own) for kind in dict.fromkeys(row["kind"] for row in own)
            }
            made.append({
                "case": f"{case} {value}".strip(),
                "minima": len(own),
                "certified": ", ".join(f"{count} × {kind}" for kind, count in kinds.items()),
                "inertia of the first": str(tuple(own[0]["inertia"])),
                "predicted": own[0]["predicted"]
                or ("" if own[0]["predicted_negative"] is None else f"n₋ = {own[0]['predicted_negative']}"),
                "smallest eigenvalue": f"{min(row['smallest'] for row in own):.1e}",
                "‖∇R‖": f"{max(row['gradient_norm'] for row in own):.0e}",
                "change of loss": f"{max(row['output_change'] for row in own):.0e}",
            })
    return Table("certificates", "What the lifted minima are", tuple(made))


def _training(config: Settings, by_case: Mapping[str, Sequence[Row]]) -> Table:
    """Return how long training stayed, by case, rule and start."""
    made = []
    for case, rows in by_case.items():
        for rule in RULES:
            left = [step for row in rows for step in row["left"][rule]]
            other = [step for row in rows for step in row["from_random"][rule]]
            made.append({
                "case": case,
                "rule": rule,
                "trainings": len(left),
                "left the plateau": f"{sum(step < config.steps for step in left) / len(left):.0%}",
                "median step of leaving": _step(config, left),
                "from random points, below it": f"{sum(step < config.steps for step in other) / len(other):.0%}",
                "median step from random points": _step(config, other),
            })
    return Table(
        "training", f"Training from beside the point ({config.offset:g} away) and from random points", tuple(made)
    )


def _step(config: Settings, steps: Sequence[int]) -> str:
    """Return the median step, or that it lies beyond the training."""
    middle = median(steps)
    return f"{middle:g}" if middle < config.steps else f"over {config.steps}"


def _negative_chart(config: Settings, rows: Sequence[Row]) -> Chart:
    """Draw n₋ of the approximate lift against ε, with what the form predicts."""
    series = []
    for seed in sorted({row["seed"] for row in rows}):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: float(row["value"]))
        x = tuple(float(row["value"]) for row in own)
        first = seed == 0
        series.append(Series("measured" if first else "", x, tuple(float(row["inertia"][0]) for row in own), "line", 0))
        series.append(
            Series(
                "predicted by the form" if first else "",
                x,
                tuple(float(row["predicted_negative"]) for row in own),
                "points",
                1,
            )
        )
    return Chart(
        "inflection",
        "Directions of descent near an inflection",
        "ε, size of the inserted input weights",
        "negative eigenvalues",
        tuple(series),
        "A minimum lifted through tanh near its inflection gains directions of negative curvature. As ε falls, their "
        "number becomes the one that the third derivative of tanh predicts.",
        log_x=True,
    )


def _leaving_chart(config: Settings, by_case: Mapping[str, Sequence[Row]]) -> Chart:
    """Draw the share of trainings that have left the plateau by each step."""
    grid = [0, *range(EVERY, config.steps, max(EVERY, config.steps // 200))]
    series = []
    for group, (case, rows) in enumerate(by_case.items()):
        left = [step for row in rows for step in row["left"]["gradient descent"]]
        shares = tuple(sum(step <= now and step < config.steps for step in left) / len(left) for now in grid)
        series.append(Series(case, tuple(float(step) for step in grid), shares, "line", group))
    return Chart(
        "leaving",
        "Gradient descent from beside the point",
        "gradient step",
        f"share of trainings below {config.fall:g} of the plateau's loss",
        tuple(series),
        "From a strict saddle (split, tangency) and from the slow channel of an approximate lift training falls away "
        "sooner or later; from an exact lift of a minimum it stays.",
    )
