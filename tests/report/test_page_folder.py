"""A report's folder: what is not ours is never overwritten."""

from pathlib import Path

import pytest

import liftscape as ls
from liftscape.report import check_folder


def test_a_strangers_page_is_refused_and_kept(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<h1>my thesis</h1>", encoding="utf-8")
    with pytest.raises(ls.LiftscapeError, match=r"report\.html exists and is no report of liftscape's"):
        check_folder(tmp_path)
    assert page.read_text(encoding="utf-8") == "<h1>my thesis</h1>"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ls.LiftscapeError, match="taken is a file; name a folder"):
        check_folder(tmp_path / "taken")


def test_a_new_folder_and_an_old_report_are_welcome(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / "report.html").write_text('<p class="brand">liftscape', encoding="utf-8")
    check_folder(tmp_path)
