"""The sameness of a fold is attacked: what is exact everywhere survives, what is exact on data alone is found out."""

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.folding import Fold, output_gap, search_difference

F64 = torch.float64


def lifted(margin: float) -> tuple[nn.Module, torch.Tensor]:
    """A network with a layer that is linear on the data, and so far from the ends of its pieces."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).to(F64)
    x = torch.rand(60, 2, dtype=F64) + 1
    # On a ring, so that corners of the box are far from the data.
    x = 2 + x / x.norm(dim=1, keepdim=True) * torch.randn(60, 1, dtype=F64).sign()
    with torch.no_grad():
        t = x @ model[0].weight.T
        model[0].bias.copy_(-t.amin(dim=0) + margin)
    return model, x


def test_an_exact_fold_far_from_kinks_survives_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = lifted(50.0)
    folded = ls.fold(model, x)
    assert folded.removed == ("1",)
    assert ls.checks.check_fold(folded, x, model, held_out=x + 0.1, search=True)
    assert "outputs kept in the box of the data" in capsys.readouterr().out


def test_a_fold_that_is_exact_on_data_alone_is_found_out_with_an_input(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = lifted(1e-3)
    folded = ls.fold(model, x)
    assert folded.removed == ("1",)
    assert ls.checks.check_fold(folded, x, model)
    assert not ls.checks.check_fold(folded, x, model, search=True)
    assert "Exact on the data, but not in their box: at (" in capsys.readouterr().out
    found = search_difference(model, folded.model, x)
    assert bool((found.example >= x.amin(dim=0)).all())
    assert bool((found.example <= x.amax(dim=0)).all())
    with torch.no_grad():
        measured = float((model(found.example[None]) - folded.model(found.example[None])).abs().max())
    assert found.gap == pytest.approx(measured / output_gap(model, model, x)[1])
    assert found.gap > 1e-2


def test_the_search_comes_near_the_largest_difference_of_a_grid() -> None:
    model, x = lifted(1e-3)
    folded = ls.fold(model, x).model
    axes = [
        torch.linspace(float(low), float(high), 60, dtype=F64) for low, high in zip(x.amin(0), x.amax(0), strict=True)
    ]
    grid = torch.cartesian_prod(*axes)
    gap, _ = output_gap(model, folded, grid)
    found = search_difference(model, folded, x)
    assert found.gap * output_gap(model, model, x)[1] >= 0.75 * gap
    assert found.gap >= found.start


def test_networks_and_data_are_left_alone_and_misuse_is_named() -> None:
    model, x = lifted(50.0)
    folded: Fold = ls.fold(model, x)
    before = [parameter.clone() for parameter in model.parameters()]
    search_difference(model, folded.model, x)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ls.LiftscapeError, match="give tensors of floating-point numbers"):
        search_difference(nn.Embedding(3, 1), nn.Embedding(3, 1), torch.tensor([[0], [1]]))
    with pytest.raises(ls.LiftscapeError, match="hold no batch"):
        output_gap(model, model, [])


def test_networks_that_do_not_see_their_input_are_compared_too() -> None:
    constants = []
    for value in (1.0, 3.0):
        model = nn.Linear(2, 1).to(F64)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.fill_(value)
        constants.append(model)
    found = search_difference(*constants, torch.randn(9, 2, dtype=F64))
    assert found.gap == pytest.approx(2)
    with pytest.raises(ls.LiftscapeError, match="starts and steps must be at least 1"):
        search_difference(*constants, torch.randn(9, 2, dtype=F64), steps=0)
