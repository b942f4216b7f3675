"""Every study at toy size: its claims come out as the theory says, and its report shows them."""

from pathlib import Path

import pytest

from liftscape.critical import certify
from liftscape.curvature import inertia
from liftscape.report import write_studies_report
from liftscape.studies.catalogue import STUDIES, settings_file
from liftscape.studies.findings import Chart, Findings, HeatMap
from liftscape.studies.runner import run_study
from liftscape.studies.settings import read_settings
from liftscape.studies.strict_saddle_cases import build_case
from liftscape.studies.strict_saddle_settings import Settings


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """All studies at toy size."""
    out = tmp_path_factory.mktemp("studies")
    return {name: run_study(name, out / name, size="toy") for name in STUDIES}


@pytest.mark.parametrize("name", ["degeneracy"])
def test_claims_that_are_theorems_hold(findings: dict[str, Findings], name: str) -> None:
    assert [claim.verdict for claim in findings[name].claims] == ["holds"] * len(findings[name].claims)


def test_charts_and_tables_are_not_empty(findings: dict[str, Findings]) -> None:
    for found in findings.values():
        assert found.claims
        assert all(table.rows for table in found.tables)
        assert all(_shows_something(chart) for chart in found.charts)


def _shows_something(chart: Chart | HeatMap) -> bool:
    return bool(chart.values) if isinstance(chart, HeatMap) else any(series.x for series in chart.series)


def test_the_common_report_is_the_same_every_time_and_names_every_claim(
    findings: dict[str, Findings], tmp_path: Path
) -> None:
    pages = [write_studies_report(list(findings.values()), "All", tmp_path / name) for name in ("one", "two")]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    text = pages[0].read_text(encoding="utf-8")
    for found in findings.values():
        assert f'id="{found.study}"' in text
        assert all(claim.seen in text for claim in found.claims)
    figures = sorted(path.name for path in (tmp_path / "one" / "figures").iterdir())
    assert len(figures) == 2 * sum(len(found.charts) for found in findings.values())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("interior", "degenerate local minimum"),
        ("boundary down", None),
        ("boundary up", None),
        ("split -0.5", "strict saddle"),
        ("tangency", "strict saddle"),
    ],
)
def test_each_case_is_certified_to_be_what_is_derived(name: str, kind: str | None, seed: int) -> None:
    config = read_settings(Settings, settings_file("strict-saddle"))
    case = build_case(config, name, seed)
    found = certify(case.deeper, known_flat=case.known_flat)
    assert found.kind == (case.predicted if kind is None else kind)
    if case.predicted_negative is not None:
        assert found.inertia is not None
        assert found.inertia.negative == case.predicted_negative


@pytest.mark.parametrize("seed", range(4))
def test_near_an_inflection_the_form_on_the_fibre_counts_the_descents(seed: int) -> None:
    config = read_settings(Settings, settings_file("strict-saddle"))
    for epsilon in (1e-2, 1e-3):
        case = build_case(config, f"inflection {epsilon:g}", seed)
        assert case.units is not None
        H = case.units[:, None] * case.deeper.hessian().to_dense() * case.units
        assert inertia(H).negative == case.predicted_negative
