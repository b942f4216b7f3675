"""Networks with collapsed blocks are saved with the calls of their blocks, and load without running code."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import liftscape as ls
from liftscape.folding import collapse_residuals
from liftscape.storage._edits import apply_edits, find_edits

F64 = torch.float64


class Block(nn.Module):
    """x ↦ relu(x + branch(x))."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.add(self.branch(x)))


class Pooled(nn.Module):
    """A block with children that stay, calls of functions, slices and several arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.norm, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        h = torch.relu(x + self.branch(x))
        h = self.norm(h)[:, :, 1:-1]
        return self.head(torch.cat([h.mean((2, 3)), h.mean(dim=(2, 3)) * scale], dim=1))


def collapsed() -> tuple[nn.Module, nn.Module, Tensor]:
    """A network, what it collapses to, and data."""
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Block(branch), Pooled()).to(F64)
    with torch.no_grad():
        branch[0].bias += 60
    x = torch.randn(9, 1, 8, 8, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ("1", "2")
    return model, found.model, x


def test_a_collapsed_network_is_saved_and_loads_again(tmp_path: Path) -> None:
    model, made, x = collapsed()
    again = ls.load(model, ls.save(made, tmp_path / "small", base=model))
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
        torch.testing.assert_close(again(x), model(x), rtol=1e-10, atol=1e-10)
    # What no recipe could describe is taken from the network itself.
    assert isinstance(again[2].norm, nn.GroupNorm)
    assert again[2].branch.weight.shape == (4, 4, 3, 3)


def entries() -> tuple[nn.Module, list[dict[str, Any]], list[Any]]:
    """A network, its recipe as read from JSON, and the calls of the last block in it."""
    model, made, _ = collapsed()
    edits = json.loads(json.dumps(find_edits(model, made)))
    return model, edits, next(edit["block"]["calls"] for edit in edits if edit["at"] == "2")


@pytest.mark.parametrize(
    ("place", "part", "evil", "reason"),
    [
        (0, 2, "x=print('code was run')", "calls placeholder"),
        (0, 0, "x=print('code was run')", "calls placeholder"),
        (0, 1, "exec", "calls exec"),
        (-2, 2, "head'), print('code was run'", "calls call_module"),
        (-2, 2, "tail", "does not fit Pooled"),
        (-2, 4, {"dict": [["x=print('code was run')", 1]]}, "are no names of arguments"),
        (-2, 3, {"call": "nowhere"}, "does not fit Pooled"),
        (-3, 2, "os.system", "calls call_function 'os.system'"),
        (3, 2, "__class__", "calls call_m|does not fit Pooled"),
    ],
)
def test_a_recipe_that_was_tampered_with_is_refused_and_runs_nothing(
    place: int, part: int, evil: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, edits, calls = entries()
    before = copy.deepcopy(calls)
    calls[place][part] = evil
    with pytest.raises(ls.LiftscapeError, match=reason):
        apply_edits(model, edits, torch.device("cpu"), F64)
    assert "code was run" not in capsys.readouterr().out
    calls[:] = before
    assert isinstance(apply_edits(model, edits, torch.device("cpu"), F64).get_submodule("2"), fx.GraphModule)


@fx.wrap
def odd(x: Tensor) -> Tensor:
    return x.sin()


def test_a_call_that_no_recipe_can_hold_is_named(tmp_path: Path) -> None:
    class Odd(Block):
        def forward(self, x: Tensor) -> Tensor:
            return odd(x + self.branch(x))

    model, x = nn.Sequential(Odd(nn.Linear(3, 3))).to(F64), torch.randn(9, 3, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ("0",)
    with pytest.raises(ls.LiftscapeError, match="'0' calls odd in its forward"):
        ls.save(found.model, tmp_path / "odd", base=model)
