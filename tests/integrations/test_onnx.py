"""ONNX files: run by onnxruntime beside torch, whole or not there, and one sentence where there can be none."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.integrations._session import Session

runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 2))


class Two(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        hidden = self.first(left)
        return {"hidden": hidden, "logits": hidden.relu() + self.second(right)}


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class OfSix(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(4, -1)


class Eigenvalues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x.T @ x) + x


def test_the_model_is_left_as_it_was_and_its_copy_is_exported_in_eval_mode(tmp_path: Path) -> None:
    model = net().double().train()
    model[0].weight.requires_grad_(False)
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = ls.integrations.to_onnx(model, X.double(), tmp_path / "net.onnx")
    assert all(torch.equal(entry, before[key]) for key, entry in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, *[True] * 5]
    (seen,) = runtime.InferenceSession(found.path).run(None, {"input": X.numpy()})
    expected = model.eval()(X.double()).detach()
    assert float((torch.from_numpy(seen).double() - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert (found.dtype, found.inputs, found.outputs) == ("float32", ("input",), ("output",))
    assert 0 < found.rounding < 1e-5


def test_the_same_network_gives_the_same_bytes_that_name_no_place(tmp_path: Path) -> None:
    paths = [ls.integrations.to_onnx(net(), X, tmp_path / name).path for name in ("a.onnx", "deep/b.onnx")]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    for trace in (b"site-packages", b".py", bytes(tmp_path)):
        assert trace not in first


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([((X, X[:, :2]), X), ((X[:1], X[:1, :2]), X)], ("left", "right")),
        ({"right": X[:, :2], "left": X}, ("right", "left")),
        ({"right": X[:1, :2], "left": X[:1]}, ("right", "left")),
    ],
)
def test_several_inputs_and_outputs_keep_their_names(inputs: Any, names: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Two()
    found = ls.integrations.to_onnx(model, inputs, tmp_path / "two.onnx")
    assert (found.inputs, found.outputs, found.agrees) == (names, ("hidden", "logits"), True)
    session = runtime.InferenceSession(found.path)
    for count in (1, 5):
        x, y = torch.randn(count, 3), torch.randn(count, 2)
        (seen,) = session.run(["logits"], {"left": x.numpy(), "right": y.numpy()})
        torch.testing.assert_close(torch.from_numpy(seen), model(x, y)["logits"].detach(), rtol=1e-5, atol=1e-6)


def test_the_gap_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Session.__call__
    shift = [1e-3]
    monkeypatch.setattr(
        Session, "__call__", lambda self, inputs, expected: [each + shift[0] for each in call(self, inputs, expected)]
    )
    model = nn.Linear(3, 2)
    found = ls.integrations.to_onnx(model, X, tmp_path / "net.onnx")
    largest, alone = (float(model(x).detach().abs().max()) for x in (X, X[:1]))
    assert not found.agrees
    assert found.gap == pytest.approx(1e-3 / min(largest, alone), rel=1e-2)
    assert found.to_dict()["path"] == str(tmp_path / "net.onnx")
    assert ls.integrations.to_onnx(model, X, tmp_path / "net.onnx", tolerance=1.0).agrees
    shift[0] = float("nan")
    assert not ls.integrations.to_onnx(model, X, tmp_path / "net.onnx", tolerance=1.0).agrees


@pytest.mark.parametrize(
    ("make", "inputs", "options", "sentence"),
    [
        (Branching, X, {}, "Branching cannot be exported: Could not guard on data-dependent expression"),
        (OfSix, X[:4], {}, r"OfSix cannot be exported: Constraints violated \(batch\).*constant \(4\)"),
        (Eigenvalues, X, {}, "Eigenvalues cannot be exported: No ONNX function found for .*eigh"),
        (net, X[:, :2], {}, "Sequential cannot be exported: .*shapes cannot be multiplied"),
        (
            lambda: nn.Conv1d(1, 1, 1),
            X[:, None],
            {"dtype": torch.float64},
            r"onnxruntime cannot run Conv1d in torch.float64: .*Conv.*in float32 only\.",
        ),
        (net, X, {"dtype": torch.int64}, "float16, float32 or float64 .* torch.int64 and 1e-05 were given"),
        (net, X, {"tolerance": -1.0}, "a tolerance of at least 0"),
        (net, X[:0], {}, "hold no samples"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line_and_nothing_is_written(
    make: Callable[[], nn.Module],
    inputs: Tensor,
    options: dict[str, Any],
    sentence: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence) as raised:
        ls.integrations.to_onnx(make(), inputs, tmp_path / "net.onnx", **options)
    assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_model_beyond_what_one_file_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liftscape.integrations.onnx_files._LARGEST", 100)
    with pytest.raises(ls.LiftscapeError, match="Sequential has 336 bytes of weights, but one ONNX file holds 2 GiB"):
        ls.integrations.to_onnx(net(), X, tmp_path / "net.onnx")


def test_a_place_that_is_taken_is_kept(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"mine")
    with pytest.raises(ls.LiftscapeError, match="already holds another network; name another file or force it"):
        ls.integrations.to_onnx(net(), X, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == b"mine"
    assert ls.integrations.to_onnx(net(), X, tmp_path / "net.onnx", overwrite=True).agrees
    assert ls.integrations.to_onnx(net(), X, tmp_path / "net.onnx").agrees
    with pytest.raises(ls.LiftscapeError, match="is a folder; name a file such as"):
        ls.integrations.to_onnx(net(), X, tmp_path)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
def test_a_graph_module_goes_the_same_way(tmp_path: Path) -> None:
    free = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net().eval(), (X,), dynamic_shapes=free).module()
    assert ls.integrations.to_onnx(program, X, tmp_path / "net.onnx").agrees


def test_a_transformer_by_its_keyword_inputs(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'transformers'", exc_type=ImportError)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, num_labels=3
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    words = torch.randint(0, 20, (4, 6))
    inputs = {"input_ids": words, "attention_mask": (words > 2).long()}
    found = ls.integrations.to_onnx(model, inputs, tmp_path / "bert.onnx")
    assert found.agrees
    assert (found.inputs, found.outputs) == (("input_ids", "attention_mask"), ("logits",))
