"""Residual blocks whose branch is affine on the data become one map, and nothing else changes."""

import copy
import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import collapse_residuals

F64 = torch.float64
ADDITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "operator": lambda a, b: a + b,
    "function": torch.add,
    "method": lambda a, b: a.add(b),
    "turned": lambda a, b: b + a,
}


def in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


ADDITIONS["in place"] = in_place


class Block(nn.Module):
    """x ↦ σ(shortcut(x) + branch(x)), σ called as a function."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, addition: str = "operator") -> None:
        super().__init__()
        self.branch, self.shortcut, self.addition = branch, shortcut, addition

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(ADDITIONS[self.addition](self.branch(x), other))


class Bare(nn.Module):
    """x ↦ x + out(norm(activation(inner(x)))), each called in the block's own forward."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.inner, self.activation, self.out = nn.Linear(width, 2 * width), activation, nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.activation(self.inner(x)))


class Own(nn.Module):
    """A branch with a forward of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.maps[1](self.maps[0](x)))


def far(model: nn.Module, shift: float = 60.0) -> nn.Module:
    """Shift every map or norm in front of an activation module so far that one piece holds its neurons."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Sequential):
                children = list(module)
                for child, after in pairwise(children):
                    if isinstance(after, (nn.ReLU, nn.LeakyReLU)) and child.bias is not None:
                        child.bias += shift
    return model


@given(
    kernel=st.sampled_from([1, 3, 5]),
    groups=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "circular"]),
    shortcut=st.sampled_from(["none", "projection", "normed"]),
    addition=st.sampled_from(sorted(ADDITIONS)),
    seed=st.integers(0, 10**6),
)
def test_a_block_of_convolutions_becomes_one(
    kernel: int, groups: int, mode: str, shortcut: str, addition: str, seed: int
) -> None:
    torch.manual_seed(seed)
    options = {"padding": kernel // 2, "groups": groups, "padding_mode": mode}
    branch = [
        nn.Conv2d(4, 6, kernel, **options),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 4, 1, groups=groups),
    ]
    ways: dict[str, nn.Module | None] = {
        "none": None,
        "projection": nn.Conv2d(4, 4, 1, groups=groups),
        "normed": nn.Sequential(nn.Conv2d(4, 4, 1, bias=False, groups=groups), nn.BatchNorm2d(4)),
    }
    block = Block(nn.Sequential(*branch, nn.BatchNorm2d(4)), ways[shortcut], addition)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), block, nn.Flatten(), nn.Linear(144, 3)).to(F64)
    x = torch.randn(12, 2, 8, 8, dtype=F64)
    for _ in range(3):
        model(x)
    far(model.eval())
    before = copy.deepcopy(model.state_dict())
    found = collapse_residuals(model, x)
    assert found.removed == ("2.branch.2",)
    assert found.collapsed == ("2",)
    convolutions = [module for module in found.model.modules() if isinstance(module, nn.Conv2d)]
    assert [each.kernel_size for each in convolutions] == [(3, 3), (kernel, kernel)]
    assert (convolutions[1].groups, convolutions[1].out_channels) == (groups, 4)
    assert found.operations_after < found.operations_before
    assert found.parameters_after < found.parameters_before
    with torch.no_grad():
        scale = float(model(x).abs().max())
        assert float((found.model(x) - model(x)).abs().max()) <= 1e-10 * scale
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert all(not module.training for module in found.model.modules())
    assert set(found.model.state_dict()) >= {"0.weight", "0.bias", "4.weight", "4.bias"}


def stack(widths: tuple[int, int, int], blocks: int) -> nn.Module:
    torch.manual_seed(0)
    inner = [Bare(widths[1], nn.ReLU()) for _ in range(blocks)]
    model = nn.Sequential(nn.Linear(widths[0], widths[1]), *inner, nn.Linear(widths[1], widths[2])).to(F64)
    with torch.no_grad():
        for block in inner:
            block.inner.bias += 300
    return model


def test_a_whole_stack_collapses_to_one_map() -> None:
    model, x = stack((3, 4, 1), 3), torch.randn(30, 3, dtype=F64)
    found = collapse_residuals(ls.EmpiricalRisk(model, "mse", (x, x[:, :1])))
    assert found.collapsed == ("1", "2", "3")
    assert len(found.joined) == 4
    assert [type(module) for module in found.model] == [nn.Linear]
    assert (found.operations_before, found.operations_after) == (3 * 4 + 3 * 2 * 4 * 8 + 4, 3)
    with torch.no_grad():
        weight = model[0].weight
        for block in model[1:4]:
            weight = weight + block.out.weight @ block.inner.weight @ weight
        torch.testing.assert_close(found.model[0].weight, model[4].weight @ weight, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-10, atol=1e-10)


def test_maps_join_only_where_that_takes_fewer_operations_and_beside_a_block_that_left() -> None:
    x = torch.randn(30, 9, dtype=F64)
    thin = stack((9, 2, 9), 1)
    found = collapse_residuals(thin, x)
    # The block joins one of its neighbours, 9·2; both together would take 9·9.
    assert found.joined == (("0", "1"),)
    assert found.operations_after == 36
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), thin(x), rtol=1e-10, atol=1e-10)
    plain = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)).to(F64)
    assert collapse_residuals(plain, x).operations_after == 162


def test_branches_with_a_forward_of_their_own_and_the_network_itself_as_the_block() -> None:
    torch.manual_seed(0)
    model = Block(Own(3), nn.Linear(3, 3, bias=False)).to(F64).eval()
    x = torch.randn(30, 3, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ("",)
    with torch.no_grad():
        expected = model.branch.maps[1].weight @ model.branch.maps[0].weight + model.shortcut.weight
        torch.testing.assert_close(found.model.branch.weight, expected, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)
    nested = nn.Sequential(Block(Block(nn.Linear(3, 3)), None)).to(F64)
    inner = collapse_residuals(nested, x)
    # The inner block ends with a relu, which keeps the outer one as it is.
    assert inner.collapsed == ("0.branch",)
    assert [row.block for row in inner.report if not row.collapsed] == ["0"]
    with torch.no_grad():
        torch.testing.assert_close(inner.model(x), nested(x), rtol=1e-12, atol=1e-12)


def test_what_is_left_is_a_normal_module() -> None:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    model = far(nn.Sequential(Block(branch), nn.Conv2d(2, 2, 3), Block(nn.Conv2d(2, 2, 3, padding=1)))).to(F64)
    x = torch.randn(9, 2, 6, 6, dtype=F64)
    made = collapse_residuals(model, x).model
    with torch.no_grad():
        expected = made(x)
        assert torch.equal(copy.deepcopy(made)(x), expected)
        buffer = io.BytesIO()
        torch.save(made, buffer)
        buffer.seek(0)
        assert torch.equal(torch.load(buffer, weights_only=False)(x), expected)
        torch.testing.assert_close(torch.export.export(made, (x,)).module()(x), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(copy.deepcopy(made).float()(x.float()).double(), expected, rtol=1e-3, atol=1e-3)
    made(x).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    again = collapse_residuals(made, x)
    assert again.collapsed == ()
    assert again.operations_after == again.operations_before


class Twice(Block):
    """Calls its branch twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x + self.branch(x))


class Branching(Block):
    """Branches on its input, which no trace follows."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if bool(x.sum() > 0) else x - self.branch(x)


class Seen(Block):
    """Hands on what its branch makes as well."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.branch(x)
        return (x + made) * made


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (lambda: Block(nn.Sequential(nn.Linear(3, 3), nn.Tanh())), "the terms of the sum are not affine in one tensor"),
        (lambda: Twice(nn.Linear(3, 3)), "'branch' is called several times"),
        (lambda: Branching(nn.Linear(3, 3)), "its forward cannot be traced"),
        (lambda: Seen(nn.Linear(3, 3)), "the terms of the sum are not affine in one tensor"),
        (lambda: Block(nn.Linear(3, 1)), "from 3 features to 1 is not added to what it reads"),
        (lambda: Block(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()), "are not affine in one tensor"),
    ],
)
def test_what_stays_is_named(block: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    made = block()
    model = nn.Sequential(made, nn.Linear(3, 2)).to(F64)
    x = torch.rand(9, 3, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ()
    assert reason in found.report[0].reason
    assert type(found.model[0]) is type(made)
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))


def test_geometry_shared_weights_and_missing_inputs_are_refused() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 2, 6, 6, dtype=F64)
    mixed = nn.Sequential(Block(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Conv2d(2, 2, 5, padding=2)))
    assert "padding modes" in collapse_residuals(mixed.to(F64), x).report[0].reason
    first, second = Block(nn.Conv2d(2, 2, 1)), Block(nn.Conv2d(2, 2, 1))
    second.branch.weight = first.branch.weight
    tied = collapse_residuals(nn.Sequential(first, second).to(F64), x)
    assert [row.reason for row in tied.report] == ["parameters of 'branch' are shared with another module."] * 2
    with pytest.raises(ls.LiftscapeError, match="give inputs, or a risk"):
        collapse_residuals(mixed)


def test_a_block_that_halves_the_picture_becomes_one_convolution_with_its_projection() -> None:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(2, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    shortcut = nn.Sequential(nn.Conv2d(2, 4, 1, 2, bias=False), nn.BatchNorm2d(4))
    model = nn.Sequential(Block(branch, shortcut), nn.Flatten(), nn.Linear(64, 2)).to(F64)
    x = torch.randn(20, 2, 7, 7, dtype=F64)
    model(x)
    found = collapse_residuals(far(model.eval()), x)
    assert found.collapsed == ("0",)
    assert (found.model[0].branch.stride, found.model[0].branch.kernel_size) == ((2, 2), (3, 3))
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-10, atol=1e-10)


def test_what_a_collapse_makes_linear_folds_on() -> None:
    # relu(x + Wx) is linear on the data, and so is what the collapsed block and the next map make.
    torch.manual_seed(0)
    model = nn.Sequential(Block(nn.Linear(3, 3)), nn.Linear(3, 2)).to(F64)
    with torch.no_grad():
        model[0].branch.bias += 50
        x = torch.randn(30, 3, dtype=F64)
        found = collapse_residuals(model, x)
        assert found.removed == ("0.relu",)
        unit = torch.eye(3, dtype=F64)
        expected = model[1].weight @ (unit + model[0].branch.weight)
        maps = [module for module in found.model.modules() if isinstance(module, nn.Linear)]
        assert len(maps) == 1
        torch.testing.assert_close(maps[0].weight, expected, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)


class Pooled(nn.Module):
    """A block with children that stay, calls of functions, slices and several arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.norm, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        h = torch.relu(x + self.branch(x))
        h = self.norm(h)[:, :, 1:-1]
        return self.head(torch.cat([h.mean((2, 3)), h.mean(dim=(2, 3)) * scale], dim=1))


def test_a_collapsed_network_is_saved_and_loads_again_without_running_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    model = far(nn.Sequential(nn.Conv2d(1, 4, 3), Block(branch, addition="method"), Pooled())).to(F64)
    x = torch.randn(9, 1, 8, 8, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ("1", "2")
    ls.save_embedded((model, found.model), tmp_path / "small")
    again = ls.load_embedded(model, tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(again(x), found.model(x))
        torch.testing.assert_close(again(x), model(x), rtol=1e-10, atol=1e-10)
    assert isinstance(again[2].norm, nn.GroupNorm)
    recipe = tmp_path / "small" / "recipe.json"
    text = recipe.read_text()
    recipe.write_text(text.replace('"torch.cat"', '"os.system"'))
    with pytest.raises(ls.LiftscapeError, match=r"calls call_function 'os.system', which no recipe"):
        ls.load_embedded(model, tmp_path / "small")
    entries = json.loads(text)
    calls = next(edit["block"]["calls"] for edit in entries["edits"] if edit["at"] == "2")
    for place, evil in ((2, "x=print('code was run')"), (0, "x=print('code was run')")):
        calls[0][place], kept = evil, calls[0][place]
        recipe.write_text(json.dumps(entries))
        with pytest.raises(ls.LiftscapeError, match="calls placeholder"):
            ls.load_embedded(model, tmp_path / "small")
        calls[0][place] = kept
    calls[-2][4] = {"dict": [["x=print('code was run')", 1]]}
    recipe.write_text(json.dumps(entries))
    with pytest.raises(ls.LiftscapeError, match="are no names of arguments"):
        ls.load_embedded(model, tmp_path / "small")
    recipe.write_text(text.replace('"head"', '"tail"'))
    with pytest.raises(ls.LiftscapeError, match="a graph that does not fit Pooled"):
        ls.load_embedded(model, tmp_path / "small")


def test_a_call_that_no_recipe_can_hold_is_named(tmp_path: Path) -> None:
    class Odd(Block):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x + self.branch(x))

    model, x = nn.Sequential(Odd(nn.Linear(3, 3))).to(F64), torch.randn(9, 3, dtype=F64)
    found = collapse_residuals(model, x)
    assert found.collapsed == ("0",)
    with pytest.raises(ls.LiftscapeError, match="'0' calls special_bessel_j0 in its forward"):
        ls.save_embedded((model, found.model), tmp_path / "odd")


def test_a_norm_over_another_axis_than_the_maps_is_found_out() -> None:
    torch.manual_seed(0)
    # BatchNorm1d takes axis 1 of three, a Linear the last one; both have four entries here.
    model = nn.Sequential(Block(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))).to(F64)
    x = torch.randn(20, 4, 4, dtype=F64)
    model(x)
    with torch.no_grad():
        model[0].branch[1].weight.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
    found = collapse_residuals(model.eval(), x)
    assert found.collapsed == ()
    assert "would change the outputs" in found.report[0].reason
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))
