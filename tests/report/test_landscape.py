"""Pictures of slices show every value for what it is, and are the same bytes for the same slice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

import liftscape as ls
from liftscape.curvature import Slice, Surface, Trajectory, project_trajectory

GRID = torch.linspace(-1, 1, 11, dtype=torch.float64)
LINE = Slice(GRID, 1 + GRID**2, 2.0)
BOWL = Surface(GRID, GRID, 1 + GRID[:, None] ** 2 + 2 * GRID**2, (1.0, 1.0), 0.0)
WAY = project_trajectory(torch.tensor([[0.9, 0.5, 0.1], [0.4, 0.5, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64))
GREY = torch.tensor([0x6B, 0x74, 0x80]) / 255

Plot = Callable[[Path], Path]


def grey_share(path: Path) -> float:
    """Return the share of pixels in the colour that stands for values that are not finite."""
    pixels = torch.from_numpy(imread(path)[..., :3].copy())
    return float(((pixels - GREY).abs() < 0.01).all(dim=-1).float().mean())


@pytest.mark.parametrize("suffix", ["svg", "png"])
@pytest.mark.parametrize(
    "plot",
    [
        lambda path: ls.report.plot_slice(LINE, path),
        lambda path: ls.report.plot_slice([LINE, LINE], path, ["one", "two"]),
        lambda path: ls.report.plot_surface(BOWL, path),
        lambda path: ls.report.plot_surface(BOWL, path, WAY),
    ],
)
def test_the_same_slice_gives_the_same_bytes(tmp_path: Path, plot: Plot, suffix: str) -> None:
    first = plot(tmp_path / f"picture.{suffix}").read_bytes()
    assert first == plot(tmp_path / f"picture.{suffix}").read_bytes()
    assert len(first) > 5000


@pytest.mark.parametrize("hole", [torch.nan, torch.inf])
def test_a_surface_shows_where_it_is_not_finite(tmp_path: Path, hole: float) -> None:
    values = BOWL.values.clone()
    values[6:, 6:] = hole
    whole = grey_share(ls.report.plot_surface(BOWL, tmp_path / "whole.png"))
    holed = grey_share(ls.report.plot_surface(replace(BOWL, values=values), tmp_path / "holed.png"))
    # 25 of 121 cells, in axes that fill about half of the picture.
    assert holed - whole == pytest.approx(25 / 121 * 0.5, rel=0.4)


def test_a_surface_without_any_finite_value_says_so(tmp_path: Path) -> None:
    empty = replace(BOWL, values=torch.full_like(BOWL.values, torch.nan))
    text = ls.report.plot_surface(empty, tmp_path / "empty.svg").read_text(encoding="utf-8")
    assert "no finite value" in text


def test_a_slice_marks_where_it_is_not_finite(tmp_path: Path) -> None:
    holed = replace(LINE, values=torch.where(GRID > 0.5, torch.nan, LINE.values))
    text = ls.report.plot_slice(holed, tmp_path / "holed.svg").read_text(encoding="utf-8")
    assert "not finite" in text
    assert "not finite" not in ls.report.plot_slice(LINE, tmp_path / "line.svg").read_text(encoding="utf-8")


def test_a_level_surface_is_drawn(tmp_path: Path) -> None:
    level = replace(BOWL, values=torch.ones_like(BOWL.values))
    assert ls.report.plot_surface(level, tmp_path / "level.png").exists()


def test_bad_requests_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ls.LiftscapeError, match=r"\.svg or \.png, but picture\.jpg"):
        ls.report.plot_slice(LINE, tmp_path / "picture.jpg")
    with pytest.raises(ls.LiftscapeError, match="is no folder"):
        ls.report.plot_surface(BOWL, tmp_path / "missing" / "picture.png")
    with pytest.raises(ls.LiftscapeError, match="1 labels were given for 2 slices"):
        ls.report.plot_slice([LINE, LINE], tmp_path / "picture.svg", ["one"])
    with pytest.raises(ls.LiftscapeError, match="needs two coordinates"):
        ls.report.plot_surface(BOWL, tmp_path / "picture.svg", one_coordinate())
    assert list(tmp_path.iterdir()) == []


def one_coordinate() -> Trajectory:
    """Return a trajectory on a line."""
    return project_trajectory(torch.eye(3, dtype=torch.float64), components=1)
