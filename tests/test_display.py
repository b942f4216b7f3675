"""Outcomes are short as text, tables in notebooks, and rows for pandas."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, final

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape import checks, curvature
from liftscape.outcomes import Outcome, TableOutcome

F64 = torch.float64


def risk() -> ls.EmpiricalRisk:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 40, dtype=F64)[:, None]
    model = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1)).to(F64)
    return ls.EmpiricalRisk(model, "mse", (x, x.abs()))


def line() -> ls.EmpiricalRisk:
    x = torch.linspace(-1, 1, 21, dtype=F64)[:, None]
    model = nn.Sequential(nn.Linear(1, 1)).to(F64)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(float(x.abs().mean()))
    return ls.EmpiricalRisk(model, "mse", (x, x.abs()))


def direction(own: ls.EmpiricalRisk, seed: int = 0) -> torch.Tensor:
    return curvature.random_direction(own, generator=seed)


OUTCOMES: dict[str, Callable[[], Outcome]] = {
    "certificate": lambda: ls.certify(line()),
    "certificate of a slope": lambda: ls.certify(risk()),
    "search": lambda: ls.find_critical_point(line(), start="random"),
    "searches": lambda: ls.find_critical_points(line(), starts=3),
    "lift": lambda: ls.lift(risk().model, risk().batches, "2", width=14),
    "fold": lambda: ls.fold(risk()),
    "fold within": lambda: ls.fold_within(risk(), budget=0.5),
    "trim": lambda: ls.trim(risk()),
    "collapse": lambda: ls.collapse_residuals(risk()),
    "linearity": lambda: ls.layer_linearity(risk()),
    "inspection": lambda: ls.inspect(risk(), probes=4),
    "escape": lambda: ls.escape(line()),
    "eigenpairs": lambda: curvature.eigenpairs(risk().hessian(), 3),
    "inertia": lambda: curvature.inertia(line().hessian()),
    "trace": lambda: curvature.trace(risk().hessian(), probes=4),
    "diagonal": lambda: curvature.diagonal(risk().hessian(), probes=4),
    "density": lambda: curvature.spectral_density(risk().hessian(), steps=8),
    "plateau": lambda: curvature.plateau_reading(risk()),
    "slice": lambda: curvature.slice_1d(risk(), direction(risk())),
    "surface": lambda: curvature.slice_2d(risk(), direction(risk()), direction(risk(), 1), points=5),
    "check": lambda: checks.check_gradient(risk()),
}
UNPICTURED = {"searches", "lift", "fold", "fold within", "trim", "collapse", "escape", "inertia", "trace", "diagonal"}
UNPICTURED |= {"plateau", "check"}


@pytest.fixture(scope="module")
def made() -> dict[str, Outcome]:
    return {name: make() for name, make in OUTCOMES.items()}


@pytest.mark.parametrize("name", OUTCOMES)
def test_text_is_short(made: dict[str, Outcome], name: str) -> None:
    outcome = made[name]
    assert repr(outcome).startswith(f"{type(outcome).__name__}(")
    assert len(repr(outcome)) < 1500
    assert "\n" not in repr(outcome)
    lines = str(outcome).split("\n")
    assert 1 <= len(lines) <= 9
    assert max(map(len, lines)) < 800
    for word in ("status", "kind", "verdict", "reason", "advice"):
        said = getattr(outcome, word, None)
        assert not isinstance(said, str) or said in str(outcome)


@pytest.mark.parametrize("name", OUTCOMES)
def test_notebooks_show_well_formed_html(made: dict[str, Outcome], name: str) -> None:
    html = made[name]._repr_html_()
    tree = ET.fromstring(html)
    assert tree.tag == "div"
    assert html.count("<tr>") >= 1
    drawn = tree.findall("{http://www.w3.org/2000/svg}svg")
    assert bool(drawn) == (name not in UNPICTURED)
    numbers = [float(value) for value in re.findall(r' (?:cx|cy|x|y|width|height)="([^"]*)"', html)]
    assert all(math.isfinite(value) for value in numbers)


@pytest.mark.parametrize("name", [name for name in OUTCOMES if name not in {"certificate", "escape"}])
def test_tables_give_one_dict_for_each_row(made: dict[str, Outcome], name: str) -> None:
    outcome = made[name]
    if not isinstance(outcome, TableOutcome):
        assert not hasattr(outcome, "to_dicts")
        return
    rows = outcome.to_dicts()
    assert len(rows) == len(getattr(outcome, outcome._rows))
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert all(isinstance(value, (bool, int, float, str, list, type(None))) for row in rows for value in row.values())


def test_the_rows_hold_the_numbers_and_those_within_them(made: dict[str, Any]) -> None:
    table, reading = made["linearity"], made["inspection"]
    assert [row["occupancy"] for row in table.to_dicts()] == [row.occupancy for row in table.rows]
    assert [row["trace.value"] for row in reading.to_dicts()] == [row.trace.value for row in reading.rows]
    assert "occupancy" in table._repr_html_()


def test_pandas_reads_the_rows(made: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(made["linearity"].to_dicts())
    assert frame["neurons"].dtype.kind == "i"
    assert frame["occupancy"].dtype.kind == "f"


@final
@dataclasses.dataclass(frozen=True)
class Hostile(Outcome):
    status: str
    values: torch.Tensor
    model: nn.Module
    texts: dict[str, str]
    reason: str


def test_texts_of_the_user_s_are_escaped_and_large_values_named_by_size() -> None:
    name = "<script>alert(1)</script>\x1b[31m"
    own = Hostile(name, torch.zeros(1000, 1000), nn.Sequential(*[nn.Linear(2, 2)] * 200), {name: name}, "a & b")
    assert "Tensor[1000, 1000]" in repr(own)
    assert "model=Sequential" in repr(own)
    assert "<script>" not in own._repr_html_()
    assert "\x1b" not in str(own)
    ET.fromstring(own._repr_html_())


def test_small_outcomes_read_as_before() -> None:
    assert repr(ls.NeuronMap((0, 1, 1), (1.0, 0.5, 0.5))) == "NeuronMap(index=(0, 1, 1), shares=(1.0, 0.5, 0.5))"
    assert str(ls.affine_pieces(nn.ReLU())[0]).startswith("AffinePiece(lower=-inf, upper=0.0, slope=0.0, intercept=0.0")
