"""Embedded networks on disk: the same bytes twice, a faithful round trip, and no code read from files."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import liftscape as ls
from liftscape.storage._edits import apply_edits
from liftscape.storage._weights import read_weights

F64 = torch.float64
INPUTS = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.fixture
def embedding() -> "ls.Embedding":
    return ls.lift(
        ls.nets.mlp((3, 2, 2)),
        INPUTS,
        ["0", "2"],
        width=(3, 4),
        activation="elu",
        generator=torch.Generator().manual_seed(1),
    )


def test_a_round_trip_is_exact_and_the_bytes_are_the_same(embedding: "ls.Embedding", tmp_path: Path) -> None:
    first = ls.save(embedding, tmp_path / "first")
    second = ls.save(embedding, tmp_path / "second")
    for name in ("model.safetensors", "recipe.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    again = ls.load(ls.nets.mlp((3, 2, 2)), first)
    assert torch.equal(again(INPUTS), embedding.model(INPUTS))
    folded = ls.fold(again, INPUTS).model
    saved = ls.save(folded, tmp_path / "folded", base=ls.nets.mlp((3, 2, 2)))
    assert torch.equal(ls.load(ls.nets.mlp((3, 2, 2)), saved)(INPUTS), folded(INPUTS))


def test_a_truncated_file_of_weights_is_named(embedding: "ls.Embedding", tmp_path: Path) -> None:
    folder = ls.save(embedding, tmp_path / "lifted")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ls.LiftscapeError, match="truncated"):
        ls.load(ls.nets.mlp((3, 2, 2)), folder)


def test_another_base_network_is_refused(embedding: "ls.Embedding", tmp_path: Path) -> None:
    folder = ls.save(embedding, tmp_path / "lifted")
    with pytest.raises(ls.LiftscapeError, match=r"recipe|fit|shape"):
        ls.load(nn.Sequential(nn.Linear(3, 2)), folder)


@pytest.mark.parametrize("name", ["net", "net.safetensors"])
def test_a_save_that_is_cut_off_leaves_one_network_whole(
    embedding: "ls.Embedding", name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, place = ls.nets.mlp((3, 2, 2)), tmp_path / name
    ls.save(embedding, place)
    with pytest.raises(ls.LiftscapeError, match="already holds another network"):
        ls.save(base, place, base=base)
    moved = Path.replace
    for steps in (0, 1):
        left = [steps]

        def cut_off(self: Path, target: Path, left: list[int] = left) -> Path:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return moved(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", cut_off)
            with pytest.raises(KeyboardInterrupt):
                ls.save(base, place, base=base, overwrite=True)
        expected = base if steps else embedding.model
        assert torch.equal(ls.load(base, place)(INPUTS), expected(INPUTS))
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_new_place_that_is_not_reached_holds_nothing(
    embedding: "ls.Embedding", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", cut_off)
    for name in ("net", "net.safetensors"):
        with pytest.raises(KeyboardInterrupt):
            ls.save(embedding, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_changed_or_carry_no_recipe_are_refused(embedding: "ls.Embedding", tmp_path: Path) -> None:
    place = ls.save(embedding, tmp_path / "net.safetensors")
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    with pytest.raises(ls.LiftscapeError, match="does not hold the tensors that it was written with"):
        ls.load(ls.nets.mlp((3, 2, 2)), place)
    save_file({"0.weight": torch.zeros(2, 3)}, place)
    with pytest.raises(ls.LiftscapeError, match="carries no recipe"):
        ls.load(ls.nets.mlp((3, 2, 2)), place)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (3, "is no edit of a network"),
        ({"at": ["0"], "module": {}}, "is no edit of a network"),
        ({"at": "0"}, "is no edit of a network"),
        ({"at": "", "leave": "0"}, "is no edit of a network"),
        ({"at": "", "leave": [0]}, "is no edit of a network"),
        ({"at": "", "leave": ["9"]}, "replaces 9, which Sequential does not have"),
        ({"at": "7", "module": {"class": "Identity"}}, "replaces 7, which Sequential does not have"),
        ({"at": "0", "module": {"class": "LSTM"}}, "describes 'LSTM'"),
        ({"at": "0", "module": {"class": "Linear", "in_features": "a", "out_features": 2, "bias": True}}, "refuses"),
        ({"at": "0", "module": {"class": "Sequential", "children": 3}}, "refuses to build"),
    ],
)
def test_a_recipe_that_is_none_is_refused_in_one_line(edit: object, sentence: str) -> None:
    base = ls.nets.mlp((3, 2, 2))
    with pytest.raises(ls.LiftscapeError, match=sentence) as raised:
        apply_edits(base, [edit], torch.device("cpu"), F64)
    assert len(str(raised.value).splitlines()) == 1


class Malicious:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harmed"),))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, "bad.pt")
    Path("worse.pt").write_bytes(pickle.dumps({"weight": Malicious()}, protocol=2))
    for name in ("bad.pt", "worse.pt"):
        with pytest.raises(ls.LiftscapeError):
            read_weights(Path(name))
    assert not Path("harmed").exists()
