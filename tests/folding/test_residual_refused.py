"""Sums that cannot become one map stay, and the reason is named."""

from collections.abc import Callable

import pytest
import torch
from tests.folding.blocks import F64, Block
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import collapse_residuals


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
