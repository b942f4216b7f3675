"""Names that no one expects on pages, in pictures and in JSON, and files that are not what they say."""

import io
import json
import re
import warnings
import zipfile
from collections import OrderedDict
from html.parser import HTMLParser
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import liftscape as ls
from liftscape.cli._data import load_data
from liftscape.curvature import Slice
from liftscape.outcomes import LiftscapeError, LoadError
from liftscape.report import plot_slice, write_inspection_report
from liftscape.storage._weights import read_weights

F64 = torch.float64
X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
NAMES = {
    "no mathematics": "$\\nosuch{$",
    "surrogate": chr(0xD800),
    "controls": "a\x00\x07\x1b[31mb",
    "mathematics": "$x^2$",
    "one dollar": "$",
    "escaped dollar": "a\\$b$",
    "tab": "tab\there",
    "line break": "line\nbreak",
    "carriage return": "a\rb",
    "markup": "<b>&\"'</b>",
    "script": "</style></script><script>alert(1)</script>",
    "comment": "--><!--",
    "character data": "]]>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "not a character": "\ufffe\uffff",
    "C1": "\x80\x9f\x7f",
    "right to left": "\u202eabc",
    "other scripts": "層\U0001f600",
    "underscore": "_name",
    "long": "x" * 3000,
    "colour": "#1b1f24",
    "rich markup": "[/red][bold]",
    "percent": "%s%d%",
    "backslash": "\\1\\g<0>\\",
}


class Strict(HTMLParser):
    """Collects texts, and the elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def named(name: str) -> nn.Module:
    torch.manual_seed(0)
    key = name.replace(".", "_")
    parts = [(key, nn.Linear(3, 4)), (f"act{key}", nn.ReLU()), ("out", nn.Linear(4, 2))]
    return nn.Sequential(OrderedDict(parts)).double()


def slow(names: dict[str, str], quick: int) -> list[object]:
    return [
        pytest.param(name, id=word, marks=() if index < quick else (pytest.mark.long,))
        for index, (word, name) in enumerate(names.items())
    ]


@pytest.mark.parametrize("name", slow(NAMES, 4))
def test_a_report_holds_any_name(name: str, tmp_path: Path) -> None:
    found = ls.inspect(ls.EmpiricalRisk(named(name), "mse", (X, X[:, :2].sin())))
    page = write_inspection_report(found, tmp_path, found.to_json(), {"kind": name})
    text = page.read_text(encoding="utf-8")
    parsed = Strict()
    parsed.feed(text)
    assert parsed.tags.count("script") == 1
    assert "alert(1)" not in text.split("<script")[-1]
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e]", text)
    for inline in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        minidom.parseString(inline.encode("utf-8"))
    for picture in (tmp_path / "figures").glob("*.svg"):
        minidom.parse(str(picture))
    kept = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert name.replace(".", "_") in [row["layer"] for row in kept["layers"]]


@pytest.mark.parametrize("name", slow(NAMES, 4))
@pytest.mark.parametrize("suffix", [".svg", pytest.param(".png", marks=pytest.mark.long)])
def test_a_plot_holds_any_label(name: str, suffix: str, tmp_path: Path) -> None:
    grid = torch.linspace(-1, 1, 5, dtype=F64)
    stem = re.sub(r"[\x00/\ud800-\udfff]", "_", name)[:40]
    place = plot_slice([Slice(grid, grid**2, 1.0)], tmp_path / f"{stem}{suffix}", labels=[name])
    if suffix == ".svg":
        minidom.parse(str(place))
    assert place.stat().st_size > 1000


def test_dollars_are_drawn_as_dollars(tmp_path: Path) -> None:
    grid = torch.linspace(-1, 1, 5, dtype=F64)
    drawn = plot_slice([Slice(grid, grid**2, 1.0)], tmp_path / "a.svg", labels=["$x^2$"]).read_text(encoding="utf-8")
    # As text it has five glyphs; as a formula it has two, one of them slanted.
    glyphs = drawn.split("<!-- $x^2$ -->")[1].split("<!--")[0]
    assert glyphs.count("<use ") == 5
    assert "Oblique" not in drawn


def header(shape: tuple[int, ...]) -> bytes:
    """The header of an array, whatever follows it."""
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return made.getvalue()


def archive(path: Path, inputs: bytes, gib: int = 0, suffix: str = ".npy") -> Path:
    """A zip of inputs that unpack to so many GiB of zeros, and one target."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        with made.open(f"inputs{suffix}", "w", force_zip64=True) as file:
            file.write(inputs)
            for _ in range(64 * gib):
                file.write(bytes(2**24))
        made.writestr(f"targets{suffix}", header((1,)) + bytes(8))
    return path


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".npy", ""])
def test_an_archive_that_unpacks_to_more_than_memory_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    place = archive(tmp_path / "bomb.npz", header((5 * 2**27,)), 5, suffix)
    assert place.stat().st_size < 2**25
    with pytest.raises(LoadError, match=r"unpacks to 5\.0 GiB, more than the 4\.0 GiB"):
        load_data(str(place), F64)


@pytest.mark.long
def test_weights_that_unpack_to_more_than_memory_are_refused_unread(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "small.pt")
    with (
        zipfile.ZipFile(tmp_path / "small.pt") as source,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
    ):
        for own in source.infolist():
            with made.open(own.filename, "w", force_zip64=True) as file:
                file.write(source.read(own))
                for _ in range(64 * 5 if own.filename.endswith("data/0") else 0):
                    file.write(bytes(2**24))
    with pytest.raises(LoadError, match="unpacks to"):
        read_weights(tmp_path / "bomb.pt")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_larger_than_the_limit_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    place = tmp_path / f"sparse{suffix}"
    with place.open("wb") as file:
        file.truncate(6 * 2**30)
    with pytest.raises(LoadError, match=r"6\.0 GiB, more than the 4\.0 GiB"):
        load_data(str(place), F64)


@pytest.mark.parametrize(
    "content",
    [
        header((2**45,)),
        header((-3,)),
        header((2, 2)),
        b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 8999 + b"\n",
        b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"[" * 4499 + b"]" * 4500 + b"\n",
        b"\x93NUMPY\x09\x00",
        b"\x93NUM",
        b"",
        b"\x00" * 200,
    ],
)
def test_a_damaged_header_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(LoadError, match=r"\.$") as raised:
            load_data(str(archive(tmp_path / "a.npz", content)), F64)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + b"x" * 50, b"PK\x05\x06" + bytes(18), b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_no_archive_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    place = tmp_path / f"a{suffix}"
    place.write_bytes(content)
    with pytest.raises(LoadError, match=r"\.$"):
        load_data(str(place), F64)


def nested(depth: int) -> str:
    """A recipe of Sequentials in Sequentials."""
    return '{"class":"Sequential","children":[["a",' * depth + '{"class":"Identity"}' + "]]}" * depth


@pytest.mark.parametrize(
    "recipe",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 50_000 + "]" * 50_000,
        '{"format":2,"sha256":"","edits":[' + nested(20_000) + "]}",
        "NaN",
        "",
        '"\\ud800"',
    ],
)
def test_a_recipe_of_any_depth_is_one_sentence(tmp_path: Path, recipe: str) -> None:
    net = nn.Linear(2, 1)
    save_file(dict(net.state_dict()), tmp_path / "a.safetensors", metadata={"liftscape": recipe})
    with pytest.raises(LiftscapeError, match=r"\.$") as raised:
        ls.load(net, tmp_path / "a.safetensors")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [100, 200, 300, 400, 1000])
def test_a_recipe_that_is_deep_but_whole_is_one_sentence(tmp_path: Path, depth: int) -> None:
    from liftscape.storage._format import fingerprint

    net = nn.Linear(2, 1)
    seal = fingerprint(dict(net.state_dict()))
    recipe = f'{{"format":2,"sha256":"{seal}","edits":[{{"at":"","module":{nested(depth)}}}]}}'
    save_file(dict(net.state_dict()), tmp_path / "a.safetensors", metadata={"liftscape": recipe})
    with pytest.raises(LiftscapeError, match=r"\.$"):
        ls.load(net, tmp_path / "a.safetensors")


class Branching(nn.Module):
    """Takes another way for few samples."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.r, self.b, self.q, self.c = nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)
        self.d, self.kind = nn.Linear(3, 2), kind
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        called = lambda: self.c(torch.relu(self.b(torch.relu(self.a(x)))))
        modules = lambda: self.c(self.q(self.b(self.r(self.a(x)))))
        ways = {"modules": modules, "calls": called, "skip": lambda: self.d(x), "both": lambda: called() + modules()}
        few, many = self.kind.split("-")
        return ways[few]() if len(x) < 4 else ways[many]()


KINDS = [
    f"{few}-{many}" for few in ("modules", "calls", "skip", "both") for many in ("modules", "calls", "skip", "both")
]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "calls-modules" else pytest.mark.long) for k in KINDS]
)
def test_a_branch_on_the_batch_size_is_answered_or_one_sentence(kind: str) -> None:
    model = Branching(kind)
    risk = ls.EmpiricalRisk(model, "mse", (X, X[:, :2].sin()))
    before = model(X)
    for ask in (
        lambda: ls.trim(model, X),
        lambda: ls.trim(model, X, affine_path=True),
        lambda: ls.fold(model, X),
        lambda: ls.layer_linearity(risk),
        lambda: ls.inspect(risk),
        lambda: ls.escape(risk),
        lambda: ls.lift(model, X, "b"),
        lambda: ls.split(model, X, "a", neuron=0),
        lambda: ls.merge(model, X, "a"),
    ):
        try:
            found = ask()
        except LiftscapeError as error:
            assert str(error).endswith("."), error  # ruff: ignore[pytest-assert-in-except]
            continue
        made = getattr(found, "model", None)
        if isinstance(made, nn.Module) and not isinstance(found, ls.Escape):
            assert float((made(X) - before).detach().abs().max()) < 1e-9


@pytest.mark.parametrize("groups", [(1, 2), (2, 1), (2, 2), (1, 4), (4, 4)])
@pytest.mark.parametrize("at", ["0", "2"])
def test_width_verbs_beside_groups_are_answered_or_one_sentence(groups: tuple[int, int], at: str) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 4, 3, groups=groups[0]), nn.Conv2d(4, 4, 3, groups=groups[1])
    with torch.no_grad():
        first.weight[1], first.bias[1] = first.weight[0], first.bias[0]
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).double()
    x = torch.randn(3, 4, 6, 6, dtype=F64)
    for ask in (
        lambda: ls.merge(model, x, at),
        lambda: ls.split(model, x, at, neuron=0),
        lambda: ls.add_null_neuron(model, x, at),
        lambda: ls.trim(model, x),
    ):
        try:
            made = ask().model
        except LiftscapeError as error:
            assert str(error).endswith("."), error  # ruff: ignore[pytest-assert-in-except]
            continue
        assert float((made(x) - model(x)).detach().abs().max()) < 1e-12
