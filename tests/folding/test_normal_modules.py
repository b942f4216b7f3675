"""What comes out of a lift, a fold, a search over folds and a trim is a normal module."""

import copy
import io
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.storage import load, save

F64 = torch.float64
KINDS = (
    "mlp",
    "lift",
    "lift then fold",
    "exact",
    "least squares",
    "search",
    "trim",
    "affine path",
    "groups",
    "collapse",
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 2))


def cnn(slope: float = 0.9) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(slope), nn.Conv2d(4, 3, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))


def relu_cnn() -> nn.Module:
    return cnn(slope=0.0)


def grouped() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ELU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))


class Block(nn.Module):
    """x ↦ relu(x + branch(x)) with a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.relu(x + self.branch(x)))


def residual() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), Block(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))


class Case(NamedTuple):
    """A network, what was made of it, and inputs."""

    build: Callable[[], nn.Module]
    base: nn.Module
    model: nn.Module
    x: torch.Tensor


@cache
def made(kind: str) -> Case:
    torch.manual_seed(0)
    special = {"trim": relu_cnn, "groups": grouped, "collapse": residual}
    build = mlp if kind in {"mlp", "lift then fold", "search", "affine path"} else special.get(kind, cnn)
    base = build().to(F64)
    x = torch.randn(20, 5, dtype=F64) if build is mlp else torch.randn(20, 1, 8, 8, dtype=F64)
    # Statistics of its own, without which BatchNorm would do nothing.
    base.train()(x)
    base.eval()
    with torch.no_grad():
        if kind == "mlp":
            base[1].bias += 9
        if kind == "exact":
            base[1].bias += 9
            base[7].bias += 99
        if kind == "trim":
            base[1].bias[2] -= 99
            base[7].bias[:3] -= 99
    if kind in {"mlp", "exact"}:
        folded = ls.fold(base, x)
        assert folded.removed == {"mlp": ("2",), "exact": ("2", "8")}[kind]
        return Case(build, base, folded.model, x)
    if kind == "lift":
        return Case(build, base, ls.lift(base, x, ["3", "9"], width=None, activation="elu").model, x)
    if kind == "lift then fold":
        lifted = ls.lift(base, x, ["3", "5"], width=None, activation="elu").model
        return Case(build, base, ls.fold(lifted, x).model, x)
    if kind == "least squares":
        return Case(build, base, ls.fold(base, x, at=["2", "8"], method="least-squares").model, x)
    if kind == "search":
        found = ls.fold_within(ls.EmpiricalRisk(base, "mse", (x, base(x).detach() + 0.1)), budget=1e6)
        assert "4" in found.removed
        return Case(build, base, found.model, x)
    if kind == "affine path":
        with torch.no_grad():
            base[1].bias[:5] += 9
        trimmed = ls.trim(base, x, affine_path=True)
        assert trimmed.rows[0].beside >= 5
        return Case(build, base, trimmed.model, x)
    if kind == "groups":
        return Case(build, base, ls.lift(base, x, "3", width=8, activation="leaky_relu").model, x)
    if kind == "collapse":
        with torch.no_grad():
            base[1].branch[1].bias += 9
        found = ls.collapse_residuals(base, x)
        assert found.collapsed == ("1",)
        return Case(build, base, found.model, x)
    trimmed = ls.trim(base, x)
    assert [row.removed > 0 for row in trimmed.rows] == [True, True]
    return Case(build, base, trimmed.model, x)


def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


@every_kind
def test_it_copies_and_pickles(kind: str) -> None:
    case = made(kind)
    expected = outputs(case.model, case.x)
    assert torch.equal(outputs(copy.deepcopy(case.model), case.x), expected)
    buffer = io.BytesIO()
    torch.save(case.model, buffer)
    buffer.seek(0)
    assert torch.equal(outputs(torch.load(buffer, weights_only=False), case.x), expected)


@every_kind
@pytest.mark.parametrize("name", ["folder", "small.safetensors"])
def test_it_is_saved_and_built_again_from_the_function_that_built_the_network(
    kind: str, name: str, tmp_path: Path
) -> None:
    case = made(kind)
    path = ls.save(case.model, tmp_path / name, base=case.base)
    torch.manual_seed(7)
    again = ls.load(case.build, path).eval()
    assert torch.equal(outputs(again, case.x), outputs(case.model, case.x))
    assert [str(part) for part in again.modules()] == [str(part) for part in case.model.modules()]
    assert all(
        torch.equal(one, other) and (key_a, one.dtype) == (key_b, other.dtype)
        for (key_a, one), (key_b, other) in zip(
            case.model.state_dict().items(), again.state_dict().items(), strict=True
        )
    )
    assert path.exists()
    assert ls.save(again, tmp_path / name, base=case.base) == path


@every_kind
def test_it_moves_between_dtypes(kind: str) -> None:
    case = made(kind)
    moved = copy.deepcopy(case.model).float()
    assert {parameter.dtype for parameter in moved.parameters()} == {torch.float32}
    expected = outputs(case.model, case.x)
    torch.testing.assert_close(outputs(moved, case.x.float()).double(), expected, rtol=1e-4, atol=1e-4)
    back = moved.double()
    torch.testing.assert_close(outputs(back, case.x), expected, rtol=1e-4, atol=1e-4)
    rounded = {
        key: entry.float().double() if entry.is_floating_point() else entry
        for key, entry in case.model.state_dict().items()
    }
    assert all(torch.equal(entry, rounded[key]) for key, entry in back.state_dict().items())


@every_kind
def test_it_trains(kind: str) -> None:
    case = made(kind)
    model = copy.deepcopy(case.model)
    target = outputs(model, case.x) + 1
    rule = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(2):
        rule.zero_grad()
        loss = nn.functional.mse_loss(model(case.x), target)
        loss.backward()
        losses.append(float(loss.detach()))
        rule.step()
    assert losses[1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_kind
def test_torch_export_gives_the_same_outputs_also_after_a_file(kind: str, tmp_path: Path) -> None:
    case = made(kind)
    free = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(case.model, (case.x,), dynamic_shapes=free)
    torch.export.save(exported, tmp_path / "net.pt2")
    for program in (exported, torch.export.load(tmp_path / "net.pt2")):
        for count in (1, 7, 20):
            seen = outputs(program.module(), case.x[:count])
            torch.testing.assert_close(seen, outputs(case.model, case.x[:count]), rtol=1e-12, atol=1e-12)


@every_kind
def test_onnxruntime_gives_the_same_outputs(kind: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    case = made(kind)
    before = {key: entry.clone() for key, entry in case.model.state_dict().items()}
    found = ls.integrations.to_onnx(case.model, case.x, tmp_path / "net.onnx")
    assert found.agrees
    assert found.gap <= 1e-5
    session = runtime.InferenceSession(found.path)
    for count in (1, 7, 20):
        (seen,) = session.run(["output"], {"input": case.x[:count].float().numpy()})
        ours = outputs(copy.deepcopy(case.model).float(), case.x[:count].float())
        assert float((torch.from_numpy(seen) - ours).abs().max()) <= 1e-5 * float(ours.abs().max())
    assert all(torch.equal(entry, before[key]) for key, entry in case.model.state_dict().items())


@every_kind
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_torch_compile_gives_the_same_outputs(kind: str, backend: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("inductor needs a C++ compiler, and there is none here")
    case = made(kind)
    compiled = torch.compile(copy.deepcopy(case.model), backend=backend)
    torch.testing.assert_close(outputs(compiled, case.x), outputs(case.model, case.x), rtol=1e-12, atol=1e-12)


def test_a_difference_that_no_recipe_can_hold_is_named(tmp_path: Path) -> None:
    base = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    other = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    with pytest.raises(ls.LiftscapeError, match="'1' differs from the base network and is a LayerNorm"):
        ls.save(other, tmp_path / "net", base=base)
    with pytest.raises(ls.LiftscapeError, match="must return a Module, not int"):
        ls.load(lambda: 3, save(base, tmp_path / "net", base=base))
    fewer = nn.Sequential(nn.Linear(2, 2))
    save(fewer, tmp_path / "fewer", base=base)
    assert len(load(base, tmp_path / "fewer")) == 1
    with pytest.raises(ls.LiftscapeError, match="the recipe replaces 1, which Sequential does not have"):
        load(fewer, tmp_path / "fewer")
