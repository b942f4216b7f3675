"""Residual blocks whose branch is affine on the data become one map, and nothing else changes."""

import copy
import io

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.folding.blocks import ADDITIONS, F64, Block, far
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import collapse_residuals


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
