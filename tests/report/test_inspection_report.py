"""The report of an inspection: what it says is what was measured, and the same reading gives the same bytes."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.curvature import Estimate
from liftscape.curvature._block_curvature import LayerCurvature
from liftscape.report import layer_rows, reading_rows, write_inspection_report
from liftscape.report._layer_panels import draw_extremes
from liftscape.report._style import figure_style


@pytest.fixture(scope="module")
def inspection() -> ls.Inspection:
    model = ls.nets.mlp((3, 30, 2), "tanh", dtype=torch.float64)
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ls.inspect(ls.EmpiricalRisk(model, "mse", (x, x[:, :2].sin())))


def test_the_page_holds_every_row_and_loads_nothing(inspection: ls.Inspection, tmp_path: Path) -> None:
    page = write_inspection_report(inspection, tmp_path, inspection.to_json(), {"kind": "not critical"})
    text = page.read_text(encoding="utf-8")
    assert all(str(value) in text for row in layer_rows(inspection) for value in row.values())
    assert all(value in text for _, value in reading_rows(inspection))
    assert "<dt>kind</dt><dd>not critical</dd>" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert text.count("<svg") == 3


def test_the_same_reading_gives_the_same_bytes(inspection: ls.Inspection, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        write_inspection_report(inspection, tmp_path / name, inspection.to_json())
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
    assert written[0] == written[1]
    figures = [f"{name}.{kind}" for name in ("extremes", "traces", "gains") for kind in ("png", "svg")]
    assert sorted(written[0]) == sorted([*figures, "report.html", "result.json"])


def test_a_network_that_is_not_finite_still_gets_its_page(tmp_path: Path) -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((2,), 1e200, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.weight.prod()).square()

    x = torch.ones(3, 1, dtype=torch.float64)
    inspection = ls.inspect(ls.EmpiricalRisk(Overflowing(), lambda output, _: output.mean(), (x, x)))
    assert "not finite" in inspection.verdict
    text = write_inspection_report(inspection, tmp_path, inspection.to_json()).read_text(encoding="utf-8")
    assert "not known" in text


@pytest.mark.parametrize("decades", [1, 2, 3, 4, 5, 6, 8])
def test_labels_of_the_curvature_axis_stand_apart(decades: int) -> None:
    trace = Estimate(1.0, 0.0, (1.0, 1.0), 0.99, 1, 1, "exact")
    spans = [(f"layer {index}", 0.7 * 10.0**-power) for index, power in enumerate(range(decades + 1))]
    rows = [LayerCurvature(name, 9, trace, -size, 0.0, size, 0.0, "converged", 9) for name, size in spans]
    with figure_style():
        figure = draw_extremes(rows)
        figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    boxes.sort(key=lambda box: box.x0)
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
