"""Merging: the way back from splits, and what it does to outputs where neurons are only nearly parallel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import liftscape as ls

F64 = torch.float64


def net(activation: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 4), activation(), nn.Linear(4, 2)).to(F64)


def gap(first: nn.Module, second: nn.Module) -> float:
    x = 10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    with torch.no_grad():
        return float((first(x) - second(x)).abs().max() / second(x).abs().max())


@settings(max_examples=30)
@given(
    st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU]),
    st.sampled_from(["0", "2"]),
    st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2)), min_size=1, max_size=3),
)
def test_merging_undoes_splits(activation: type[nn.Module], at: str, splits: list[tuple[int, float]]) -> None:
    model = net(activation)
    wider = model
    for neuron, share in splits:
        wider = ls.split(wider, None, at, neuron=neuron, share=share).model
    found = ls.merge(wider, torch.randn(7, 3, dtype=F64), at)
    assert (found.neurons_before, found.neurons_after) == (4 + len(splits), 4)
    for name, tensor in model.state_dict().items():
        assert torch.allclose(found.model.state_dict()[name], tensor, rtol=0, atol=1e-12)
    assert found.gap <= 1e-11 * found.scale


def test_multiples_of_a_relu_and_the_opposite_of_a_tanh_are_merged() -> None:
    x = torch.randn(20, 3, dtype=F64)
    relu, tanh = net(nn.ReLU), net(nn.Tanh)
    with torch.no_grad():
        for model, factor in ((relu, 2.5), (tanh, -1.0)):
            model[0].weight[3], model[0].bias[3] = factor * model[0].weight[1], factor * model[0].bias[1]
    for model in (relu, tanh):
        found = ls.merge(model, x, "0")
        assert found.groups == ((1, 3),)
        assert gap(found.model, model) <= 1e-12
        assert ls.merge(model, None, "0").groups == ()
    with torch.no_grad():
        relu[0].weight[3], relu[0].bias[3] = -relu[0].weight[1], -relu[0].bias[1]
    assert ls.merge(relu, x, "0").groups == ()


def test_nearly_parallel_neurons_merge_with_an_effect_that_is_measured() -> None:
    model, x = net(nn.Tanh), torch.randn(30, 3, dtype=F64)
    wider = ls.split(model, None, "0", neuron=2, share=0.5).model
    before = {name: tensor.clone() for name, tensor in wider.state_dict().items()}
    with torch.no_grad():
        wider[0].weight[4] += 1e-3
    assert ls.merge(wider, x, "0").groups == ()
    found = ls.merge(wider, x, "0", tolerance=1e-2)
    assert found.groups == ((2, 4),)
    with torch.no_grad():
        assert found.gap == pytest.approx(float((found.model(x) - wider(x)).abs().max()))
    # Equal shares put the mean between both, so that the first order cancels.
    assert 0 < found.gap < 1e-5 * found.scale
    assert torch.equal(before["2.weight"], wider[2].weight)


def test_channels_are_merged() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2))
    model, x = nn.Sequential(*layers).to(F64), torch.randn(6, 2, 8, 8, dtype=F64)
    wider = ls.split(model, x, "0", neuron=1, share=0.3).model
    found = ls.merge(wider, x, "0")
    assert found.neurons_after == 3
    assert all(
        torch.allclose(found.model.state_dict()[k], v, rtol=0, atol=1e-13) for k, v in model.state_dict().items()
    )


def test_refusals() -> None:
    with pytest.raises(ls.LiftscapeError, match="at least 0"):
        ls.merge(net(nn.Tanh), None, "0", tolerance=-1.0)
    with pytest.raises(ls.LiftscapeError, match="ends the network"):
        ls.merge(net(nn.Tanh), None, "4")
