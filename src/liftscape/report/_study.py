"""The report of a study: each claim with what was expected and what was seen, tables and charts; and of many."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from liftscape.outcomes import to_plain
from liftscape.report._page import render_page, write_report
from liftscape.report._study_chart import draw_chart
from liftscape.report._style import figure_style
from liftscape.report._svg import Panel, render
from liftscape.studies.findings import Findings, Verdict

__all__ = ["claim_rows", "claims_as_markdown", "verdicts_as_markdown", "write_studies_report", "write_study_report"]


def write_study_report(findings: Findings, out: Path) -> Path:
    """Write ``report.html`` (one file), the charts as SVG and PNG, and ``result.json``.

    Args:
        findings: of one study.
        out: the folder; made if it does not exist.

    Returns:
        The path of the page.

    Raises:
        LoadError: if the folder is a file, or holds another ``report.html``.
    """
    return write_studies_report((findings,), findings.question, out)


def write_studies_report(several: Sequence[Findings], title: str, out: Path) -> Path:
    """Write one report of several studies, with a table of all claims first.

    Args:
        several: the findings.
        title: of the page.
        out: the folder; made if it does not exist.

    Returns:
        The path of the page.

    Raises:
        LoadError: if the folder is a file, or holds another ``report.html``.
    """
    with figure_style():
        panels: dict[str, list[Panel]] = {
            findings.study: [
                render(f"{findings.study}-{chart.name}", draw_chart(chart), chart.caption) for chart in findings.charts
            ]
            for findings in several
        }
    page = render_page(
        "study.html",
        title=title,
        several=several,
        claims=[row for findings in several for row in claim_rows(findings, with_study=len(several) > 1)],
        panels=panels,
    )
    result = _json(several)
    return write_report(out, page, panels, result)


def claim_rows(findings: Findings, with_study: bool = False) -> list[dict[str, Any]]:
    """Return the claims as rows of a table.

    Args:
        findings: of one study.
        with_study: whether its name is the first column.

    Returns:
        Rows of column title to text.
    """
    rows = [
        {
            "claim": claim.statement,
            "source": claim.source,
            "expected": claim.expected,
            "seen": claim.seen,
            "verdict": claim.verdict,
        }
        for claim in findings.claims
    ]
    return [{"study": findings.study, **row} if with_study else row for row in rows]


def claims_as_markdown(results: Sequence[Path]) -> str:
    """Return the claims of written studies as a table in Markdown.

    Args:
        results: files ``result.json`` of study reports.

    Returns:
        The table, a line for each claim.
    """
    lines = ["| study | claim | seen | verdict |", "|---|---|---|---|"]
    for path in results:
        for study in json.loads(path.read_text(encoding="utf-8"))["studies"]:
            for claim in study["claims"]:
                cells = (study["study"], claim["statement"], claim["seen"], f"**{claim['verdict']}**")
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def verdicts_as_markdown(results: Sequence[Path]) -> str:
    """Return how many claims of each written study have each verdict, as a table in Markdown.

    Args:
        results: files ``result.json`` of study reports.

    Returns:
        The table, a line for each study.
    """
    verdicts = get_args(Verdict)
    lines = [f"| study | {' | '.join(verdicts)} |", "|---|" + "---|" * len(verdicts)]
    for path in results:
        for study in json.loads(path.read_text(encoding="utf-8"))["studies"]:
            counts = Counter(claim["verdict"] for claim in study["claims"])
            lines.append(f"| {study['study']} | " + " | ".join(str(counts[verdict]) for verdict in verdicts) + " |")
    return "\n".join(lines)


def _json(several: Sequence[Findings]) -> str:
    """Return claims and tables without the charts' points, which metrics.jsonl holds."""
    kept = ("study", "question", "size", "runs", "claims", "tables")
    plain = [{name: to_plain(getattr(findings, name)) for name in kept} for findings in several]
    return json.dumps({"studies": plain}, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
