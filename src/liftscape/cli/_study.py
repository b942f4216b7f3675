"""`liftscape study`: the claims of the paper as experiments that anyone can run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from liftscape.cli._options import Json
from liftscape.cli._print import interrupted_as, progress, show, table, write_json
from liftscape.outcomes import LoadError
from liftscape.report import check_folder, write_studies_report, write_study_report
from liftscape.studies.catalogue import STUDIES, settings_file, study_module
from liftscape.studies.findings import Findings
from liftscape.studies.runner import run_study

_REPORT = "all"


def study(
    names: Annotated[list[str] | None, Parameter(help="Studies to run, or all.")] = None,
    /,
    *,
    list_: Annotated[bool, Parameter(name="--list", negative="", help="Name the studies and what they ask.")] = False,
    size: Annotated[
        Literal["toy", "full"], Parameter(help="toy takes seconds, full up to 20 minutes a study.")
    ] = "full",
    seeds: Annotated[int | None, Parameter(help="Independent runs, instead of those of the settings.")] = None,
    config: Annotated[
        Path | None, Parameter(help="Settings of one study as TOML, instead of the committed ones.")
    ] = None,
    jobs: Annotated[int, Parameter(help="Processes at a time.")] = 1,
    device: Annotated[str, Parameter(help="auto takes a GPU where there is one; or cpu, cuda.")] = "auto",
    out: Annotated[Path, Parameter(help="Folder; each study has a folder in it.")] = Path("studies"),
    json: Json = False,
) -> None:
    """Run studies of the paper's claims: what was expected, what was seen, whether they agree.

    A study that was cut off goes on where it was; one that is finished is not run again.
    """
    if list_:
        show(table("Studies", ["name", "question"], list(STUDIES.items())))
        return
    chosen = list(STUDIES) if names == [_REPORT] else list(names or ())
    _check(chosen, config, out, jobs)
    for name in chosen:
        study_module(name)
    files = {name: settings_file(name) if config is None else config for name in chosen}
    found = [_run(name, out / name, size, seeds, jobs, files[name], device) for name in chosen]
    page = _write(found, chosen, out)
    if json:
        write_json({"studies": [_claims(findings) for findings in found]})
        return
    for findings in found:
        rows = [[claim.statement, claim.seen, claim.verdict] for claim in findings.claims]
        show(table(f"{findings.study}: {findings.question}", ["claim", "seen", "verdict"], rows), "")
    show(f"Report: {page}")


def _check(chosen: list[str], config: Path | None, out: Path, jobs: int) -> None:
    """Raise before any work if the request makes no sense."""
    if not chosen:
        raise LoadError(f"name the studies to run: all, or some of {', '.join(STUDIES)}.")
    if config is not None and len(chosen) != 1:
        raise LoadError(f"--config holds the settings of one study, but {len(chosen)} were named; name one.")
    if jobs < 1:
        raise LoadError(f"--jobs must be at least 1, but {jobs} was given.")
    check_folder(out)
    for name in chosen:
        check_folder(out / name)


def _run(name: str, folder: Path, size: str, seeds: int | None, jobs: int, settings: Path, device: str) -> Findings:
    """Run one study with a bar."""
    with interrupted_as(f"the same command goes on from {folder}"), progress(name) as advance:
        findings = run_study(
            name,
            folder,
            size=size,
            seeds=seeds,
            jobs=jobs,
            settings=settings,
            device=device,
            progress=advance,
        )
        write_study_report(findings, folder)
    return findings


def _write(found: list[Findings], chosen: list[str], out: Path) -> Path:
    """Write the common report where there are several studies, and return the page to open."""
    if len(found) == 1:
        return out / chosen[0] / "report.html"
    return write_studies_report(found, "The embedding principle in depth, claim by claim", out)


def _claims(findings: Findings) -> dict[str, Any]:
    """Return a study's claims as plain values."""
    return {
        "study": findings.study,
        "size": findings.size,
        "runs": findings.runs,
        "claims": [claim.to_dict() for claim in findings.claims],
    }
