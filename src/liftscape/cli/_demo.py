"""`liftscape demo`: the embedding principle on real data, with its certificates and a report."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from liftscape.cli._options import Json
from liftscape.cli._print import interrupted_as, progress, show, table, write_json
from liftscape.report import check_folder, write_demo_report
from liftscape.studies.embedding_principle import run
from liftscape.studies.embedding_principle_result import DemoResult


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for report.html, its figures and result.json.")] = Path("demo"),
    seed: Annotated[int, Parameter(help="Of all starts and draws.")] = 0,
    json: Json = False,
) -> None:
    """Find critical points of shallow networks on Iris, lift them, certify the lifts, and write a report.

    The report is one HTML file that opens offline.
    """
    check_folder(out)
    with progress("starting") as advance:
        result = run(seed=seed, progress=advance)
    with interrupted_as(f"{out} may hold part of a report"):
        page = write_demo_report(result, out)
    with interrupted_as(f"{page} was written"):
        if json:
            write_json(result.to_dict())
            return
        show(*_tables(result), "", result.verdict, f"Report: {page}")


def _tables(result: DemoResult) -> list[Any]:
    """Return the critical points and their lifts as two tables, which fit a terminal of 80 columns."""
    rows = result.table()
    if not rows:
        return []
    names = list(rows[0])
    first = names.index("lifts")
    parts = {"Critical points": names[:first], "Their lifts, certified": [names[0], *names[first:]]}
    return [
        table(title, columns, [[row[name] for name in columns] for row in rows]) for title, columns in parts.items()
    ]
