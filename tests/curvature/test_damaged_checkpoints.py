"""What is damaged in a checkpoint is refused in one sentence, or made again; it never changes a result."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.curvature.spectra import F64, rotated

import liftscape as ls
from liftscape.curvature import block_curvature, diagonal, eigenpairs, slice_1d, spectral_density, trace
from liftscape.curvature._sealed import read_sealed, write_sealed
from liftscape.operators import as_operator

MATRIX = rotated(torch.linspace(-2, 5, 150, dtype=F64))
X = torch.linspace(-1, 1, 20, dtype=F64)[:, None]
MODEL = ls.nets.mlp((1, 3, 1), "tanh", dtype=F64, generator=torch.Generator().manual_seed(0))
RISK = ls.EmpiricalRisk(MODEL, "mse", (X, X.sin()))

WORKS: dict[str, Callable[[Path], str]] = {
    "trace": lambda folder: trace(MATRIX, checkpoint=folder).to_json(),
    "block": lambda folder: block_curvature(as_operator(MATRIX), name="all", checkpoint=folder).to_json(),
    "density": lambda folder: spectral_density(MATRIX, steps=9, probes=2, checkpoint=folder).to_json(),
    "diagonal": lambda folder: diagonal(MATRIX, checkpoint=folder).to_json(),
    "eigenpairs": lambda folder: eigenpairs(MATRIX, 1, tolerance=0.1, checkpoint=folder).to_json(),
    "slice": lambda folder: slice_1d(RISK, torch.ones(RISK.size, dtype=F64), points=9, checkpoint=folder).to_json(),
}
FILES = [(work, "work.json") for work in WORKS] + [(work, "state.json") for work in ("trace", "block", "density")]
RECORDS = [("diagonal", "products.bin"), ("eigenpairs", "products.bin"), ("slice", "values.bin")]
CONTENTS = {
    "empty": b"",
    "an object": b"{}",
    "a list": b"[]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "not text": bytes(range(128, 256)),
    "of the first format": json.dumps({"settings": {"probes": 100}, "sketch": [1.0] * 8}).encode(),
    "of a later format": json.dumps({"format": 1000, "content": {}}).encode(),
    "without content": json.dumps({"format": 2}).encode(),
}


def flipped(content: bytes, place: int) -> bytes:
    """Return the bytes with one bit of one of them turned."""
    return content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def refused(work: Callable[[Path], str], folder: Path, file: str) -> None:
    """Assert that the work is refused in one sentence that names the file and a way out."""
    with pytest.raises(ls.outcomes.LoadError) as caught:
        work(folder)
    text = str(caught.value)
    assert str(folder / file) in text
    assert "name another folder, or delete this checkpoint" in text
    assert "\n" not in text


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path, name: str, file: str) -> None:
    work, place = WORKS[name], tmp_path / file
    expected = work(tmp_path)
    whole = place.read_bytes()
    for content in (*CONTENTS.values(), whole[:-1], whole[: len(whole) // 2]):
        place.write_bytes(content)
        refused(work, tmp_path, file)
    place.unlink()
    place.mkdir()
    refused(work, tmp_path, file)
    place.rmdir()
    place.write_bytes(whole)
    assert work(tmp_path) == expected


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_bit_that_turned_is_refused_where_it_changes_anything(tmp_path: Path, name: str, file: str) -> None:
    work, place = WORKS[name], tmp_path / file
    expected = work(tmp_path)
    whole = place.read_bytes()
    content = json.loads(whole)
    for turned in range(0, len(whole), max(1, len(whole) // 60)):
        place.write_bytes(flipped(whole, turned))
        try:
            same = json.loads(flipped(whole, turned)) == content
        except ValueError:
            same = False
        if same:
            assert work(tmp_path) == expected
        else:
            refused(work, tmp_path, file)


@pytest.mark.parametrize(("name", "file"), RECORDS)
def test_records_that_are_damaged_are_made_again(tmp_path: Path, name: str, file: str) -> None:
    work, place = WORKS[name], tmp_path / file
    expected = work(tmp_path)
    whole = place.read_bytes()
    step = max(1, len(whole) // 20)
    damaged = [flipped(whole, turned) for turned in range(0, len(whole), step)]
    damaged += [whole[:length] for length in range(0, len(whole), step)]
    damaged += [whole + b"more", bytes(reversed(whole))]
    for content in damaged:
        place.write_bytes(content)
        assert work(tmp_path) == expected
        # What follows the last record is never read.
        assert place.read_bytes().removesuffix(b"more") == whole
    place.unlink()
    place.mkdir()
    refused(work, tmp_path, file)


@pytest.mark.parametrize("file", ["products.bin", "values.bin"])
def test_records_of_a_folder_that_lost_its_description_are_not_those_of_another_work(tmp_path: Path, file: str) -> None:
    def work(matrix: torch.Tensor, risk: ls.EmpiricalRisk, folder: Path) -> str:
        if file == "products.bin":
            return diagonal(matrix, checkpoint=folder).to_json()
        return slice_1d(risk, torch.ones(risk.size, dtype=F64), points=9, checkpoint=folder).to_json()

    other = ls.EmpiricalRisk(MODEL, "mse", (X, X.cos()))
    expected = work(-MATRIX, other, tmp_path / "other")
    work(MATRIX, RISK, tmp_path / "lost")
    (tmp_path / "lost" / "work.json").unlink()
    assert work(-MATRIX, other, tmp_path / "lost") == expected


def test_a_result_of_other_work_or_another_version_is_refused(tmp_path: Path) -> None:
    work = WORKS["trace"]
    expected = work(tmp_path / "a")
    trace(-MATRIX, checkpoint=tmp_path / "b")
    shutil.copy(tmp_path / "a" / "state.json", tmp_path / "b" / "state.json")
    with pytest.raises(ls.outcomes.LoadError, match=r"state\.json is of other work than the folder that it is in"):
        trace(-MATRIX, checkpoint=tmp_path / "b")
    state = tmp_path / "a" / "state.json"
    kept = read_sealed(state)
    older = {**kept, "parts": [{"estimate": 3.0}, kept["parts"][1]]}
    write_sealed(state, older)
    with pytest.raises(ls.outcomes.LoadError, match="holds a result of another version of liftscape"):
        work(tmp_path / "a")
    write_sealed(state, kept)
    assert work(tmp_path / "a") == expected


def test_a_slice_is_taken_over_by_the_same_network_on_data_in_other_batches(tmp_path: Path) -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = ls.nets.mlp((3, 8, 1), "tanh", dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    whole = ls.EmpiricalRisk(model, "mse", (x, x[:, :1].sin()))
    parts = ls.EmpiricalRisk(model, "mse", [(x[i : i + 3], x[i : i + 3, :1].sin()) for i in range(0, 64, 3)])
    assert float(whole.value()) != float(parts.value())
    u = torch.ones(whole.size)
    first = slice_1d(whole, u, points=5, checkpoint=tmp_path)
    assert torch.equal(slice_1d(parts, u, points=5, checkpoint=tmp_path).values, first.values)
    with pytest.raises(ls.outcomes.LoadError, match="other points or other data"):
        slice_1d(ls.EmpiricalRisk(model, "mse", (x, 1.0001 * x[:, :1].sin())), u, points=5, checkpoint=tmp_path)
