"""The report is one offline file, the same bytes every time, safe against what it is told, and open to all readers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from liftscape.report import write_demo_report
from liftscape.studies.embedding_principle_result import DemoResult

_LOADING_ATTRIBUTES = {"src", "href", "xlink:href", "data", "action", "poster", "srcset"}
_VOID = {"meta", "link", "input", "br", "hr", "img"}


class _Page(HTMLParser):
    """Collects what a page loads, its ids, and whether its elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in _LOADING_ATTRIBUTES and value is not None:
                self.loads.append(value)
            if name == "id" and value is not None:
                self.ids.append(value)
            if name in {"aria-labelledby", "for"} and value is not None:
                self.references += value.split()
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(demo_result: DemoResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up result's report."""
    return write_demo_report(demo_result, tmp_path_factory.mktemp("report") / "new" / "folder")


def _parse(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_the_same_result_gives_the_same_bytes(report: Path, demo_result: DemoResult, tmp_path: Path):
    again = write_demo_report(demo_result, tmp_path)
    first = {path.relative_to(report.parent): path.read_bytes() for path in report.parent.rglob("*.*")}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in again.parent.rglob("*.*")}
    assert first == second
    assert len([path for path in first if path.suffix == ".png"]) == len([p for p in first if p.suffix == ".svg"]) == 11


def test_the_page_loads_nothing(report: Path):
    page = _parse(report)
    assert not page.open
    assert page.loads
    assert all(load.startswith("#") or load == "data:," for load in page.loads)
    text = report.read_text(encoding="utf-8")
    # What is left with a scheme are the names of XML namespaces, which no browser fetches.
    assert set(re.findall(r"[\w:-]*=?\"?https?://[^\"' <>)]+", text)) <= {
        'xmlns="http://www.w3.org/2000/svg',
        'xmlns:xlink="http://www.w3.org/1999/xlink',
    }
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_ids_are_unique_and_references_resolve(report: Path):
    page = _parse(report)
    assert len(page.ids) == len(set(page.ids))
    assert {load[1:] for load in page.loads if load.startswith("#")} <= set(page.ids)
    assert set(page.references) <= set(page.ids)


def test_every_figure_has_a_title_and_a_description(report: Path):
    text = report.read_text(encoding="utf-8")
    figures = re.findall(r"<svg\b.*?</svg>", text, flags=re.DOTALL)
    assert len(figures) == 11
    for figure in figures:
        assert 'role="img"' in figure
        assert re.search(r"<title [^>]*>[^<]{5,}</title><desc [^>]*>[^<]{20,}</desc>", figure)
    assert text.count("<figcaption>") == text.count("<figure>")


def test_names_are_escaped(evil_result: DemoResult, tmp_path: Path):
    page = write_demo_report(evil_result, tmp_path)
    assert _parse(page).scripts == 1
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;tanh&#39;)&lt;/script&gt; &amp; &#34;3-1-1&#34;" in text
    assert all("<script" not in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.svg"))


def test_the_headline_and_the_captions_carry_the_measured_numbers(report: Path):
    text = report.read_text(encoding="utf-8")
    assert "2 of 2 lifted points: inertia as predicted, outputs kept to 2·10⁻¹⁶, gradient zero to 3·10⁻¹⁵." in text
    assert "slope 2.00 (ε²)" in text
    assert "tanh 3-1-1: of 10 random starts, 8 critical, 1 diverging, 1 gradient-flat; 3 distinct." in text


def test_the_json_is_the_result(report: Path, demo_result: DemoResult):
    assert json.loads((report.parent / "result.json").read_text(encoding="utf-8")) == demo_result.to_dict()


def test_no_half_written_file_is_left(report: Path):
    assert not list(report.parent.rglob(".*"))
