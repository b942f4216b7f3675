"""Convolutions fold exactly where borders stay right, and by least squares into the convolution that fits best."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.outcomes import SiteError

F64 = torch.float64


def dense(map_: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the matrix and the constant of an affine map on inputs of one shape."""
    with torch.no_grad():
        size = int(np.prod(shape))
        constant = map_(torch.zeros(1, *shape, dtype=F64)).flatten()
        return (map_(torch.eye(size, dtype=F64).reshape(size, *shape)).flatten(1) - constant).T, constant


@pytest.mark.parametrize(
    ("kernels", "strides", "paddings"),
    list(
        itertools.product([(3, 1), (1, 3), (3, 3), (2, 3)], [(1, 1), (2, 1), (1, 2)], [(0, 0), (1, 0), (0, 1), (1, 1)])
    ),
)
def test_a_fold_is_the_product_of_the_dense_matrices_or_is_refused(
    kernels: tuple[int, int], strides: tuple[int, int], paddings: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(2, 3, kernels[0], strides[0], paddings[0]).to(F64)
    last = nn.Conv2d(3, 2, kernels[1], strides[1], paddings[1]).to(F64)
    with torch.no_grad():
        first.bias.copy_(torch.tensor([40.0, -40.0, 40.0]))
    model = nn.Sequential(first, nn.LeakyReLU(0.1), last)
    inputs = torch.randn(6, 2, 7, 7, dtype=F64)
    row = (folded := ls.fold(model, inputs)).report[0]
    if paddings[1]:
        assert not row.folded
        assert "borders" in row.reason
        return
    assert row.folded
    pieces = torch.diag(torch.tensor([1.0, 0.1, 1.0], dtype=F64).repeat_interleave(_places(first, inputs)))
    A, c = dense(first, (2, 7, 7))
    B, d = dense(last, (3, *first(inputs).shape[2:]))
    W, b = dense(folded.model, (2, 7, 7))
    assert float((W - B @ pieces @ A).abs().max()) < 1e-13
    assert float((b - (B @ pieces @ c + d)).abs().max()) < 1e-11


def _places(map_: nn.Module, inputs: Tensor) -> int:
    return map_(inputs).shape[2] * map_(inputs).shape[3]


def test_padding_after_a_pointwise_map_is_right_where_no_constant_is_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)).to(F64)
    with torch.no_grad():
        model[0].weight.abs_()
    inputs = torch.rand(5, 2, 6, 6, dtype=F64)
    folded = ls.fold(model, inputs)
    assert folded.removed == ("1",)
    with torch.no_grad():
        torch.testing.assert_close(folded.model(inputs), model(inputs), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", [0, 1])
def test_least_squares_is_that_of_numpy_on_patches(padding: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=padding), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=padding), nn.Flatten()
    ).to(F64)
    inputs = torch.randn(300, 2, 6, 6, dtype=F64)
    folded = ls.fold(model, inputs, at="1", method="least-squares")
    kernel = 3 if padding else 5
    assert folded.model[2].kernel_size == (kernel, kernel)
    patches = nn.functional.unfold(inputs, kernel, padding=padding).transpose(1, 2).flatten(0, 1).numpy()
    with torch.no_grad():
        z = model[:3](inputs).movedim(1, -1).reshape(-1, 3).numpy()
        mine = folded.model[:3](inputs).movedim(1, -1).reshape(-1, 3).numpy()
    design = np.concatenate([patches, np.ones((len(patches), 1))], axis=1)
    right = design @ np.linalg.lstsq(design, z, rcond=None)[0]
    np.testing.assert_allclose(mine, right, atol=1e-9)
    r2 = 1 - ((z - right) ** 2).sum() / ((z - z.mean(0)) ** 2).sum()
    assert folded.report[0].r2 == pytest.approx(r2, abs=1e-9)


def test_several_layers_leave_one_after_the_other_and_linear_ones_without_a_trace() -> None:
    model = ls.nets.mlp((3, 5, 2), "tanh")
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    lifted = ls.lift(model, x, "2", width=[4, 4], activation="elu").model
    names = ls.fold(lifted, x).removed
    folded = ls.fold(lifted, x, at=names, method="least-squares")
    assert folded.removed == names
    assert all(row.r2 == pytest.approx(1, abs=1e-12) for row in folded.report)
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-9, atol=1e-9)
        rough = ls.fold(model, x, at="1", method="least-squares")
        assert rough.report[0].r2 < 0.99
        assert float((rough.model(x) - model(x)).abs().max()) > 1e-2


def test_what_least_squares_cannot_do_is_said() -> None:
    model, x = ls.nets.mlp((3, 5, 2), "tanh"), torch.randn(9, 3, dtype=F64)
    with pytest.raises(ls.LiftscapeError, match="give their names as at"):
        ls.fold(model, x, method="least-squares")
    mixed = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3)).to(F64)
    with pytest.raises(SiteError, match="cannot leave by least squares"):
        ls.fold(mixed, torch.randn(9, 1, 5, 5, dtype=F64), at="1", method="least-squares")


def test_a_folded_convolution_is_saved_and_loads_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)).to(F64)
    x = torch.randn(20, 1, 8, 8, dtype=F64)
    folded = ls.fold(model, x, at="1", method="least-squares").model
    ls.save(folded, tmp_path / "folded", base=model)
    again = ls.load(model, tmp_path / "folded")
    assert again[2].stride == (2, 2)
    with torch.no_grad():
        assert torch.equal(again(x), folded(x))


class Normed(nn.Module):
    """Map, norm, activation, map: for vectors or for pictures, and with the activation in place."""

    def __init__(self, pictures: bool, in_place: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, bias=False) if pictures else nn.Linear(2, 3, bias=False)
        self.norm = nn.BatchNorm2d(3) if pictures else nn.BatchNorm1d(3)
        self.activation = nn.LeakyReLU(0.2, inplace=in_place)
        self.last = nn.Conv2d(3, 2, 3) if pictures else nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.norm(self.first(x))))


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("how", ["exact", "least-squares"])
def test_a_norm_with_fixed_statistics_is_absorbed(pictures: bool, in_place: bool, how: str) -> None:
    torch.manual_seed(0)
    model = Normed(pictures, in_place).to(F64)
    x = torch.randn(300, 2, 7, 7, dtype=F64) if pictures else torch.randn(300, 2, dtype=F64)
    model(x)
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        model.norm.bias.copy_(torch.tensor([50.0, -50.0, 50.0]))
    row = ls.fold(model, x).report[0]
    assert not row.folded
    assert "call eval()" in row.reason
    folded = ls.fold(model.eval(), x, at="activation", method=how)
    assert folded.removed == ("activation",)
    assert isinstance(folded.model.norm, nn.Identity)
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-9, atol=1e-9)
