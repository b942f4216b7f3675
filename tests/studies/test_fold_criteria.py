"""The networks of the fold-criteria study, and the orders in which their layers leave."""

import pytest
import torch
from torch import nn

from liftscape.folding import fold, operations
from liftscape.nets.image_classifiers import deep_network
from liftscape.training.fold_criteria import CRITERIA, candidates, orders, prelu_slopes


def with_one_linear_layer(name: str) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = deep_network("plain", 6, 4)
    with torch.no_grad():
        model.get_submodule(f"norm_{name}").bias.fill_(20.0)
    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval(), x, model(x).argmax(dim=1)


@pytest.mark.parametrize(("kind", "folded"), [("plain", 17), ("residual", 9)])
def test_networks_of_twenty_convolutions_and_the_layers_that_may_leave(kind: str, folded: int) -> None:
    model = deep_network(kind, 20, 4).eval()
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 20
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    names = list(candidates(model, x))
    assert len(names) == folded
    left = {operations(fold(model, x, at=[name], method="least-squares").model, x) for name in (names[0], names[-1])}
    assert left == {operations(model, x) - 4 * 4 * 9 * 49}


def test_each_criterion_orders_all_layers_and_a_linear_one_leaves_first() -> None:
    model, x, y = with_one_linear_layer("conv3")
    names = list(candidates(model, x))
    slopes = {name: place / 10 for place, name in enumerate(names)}
    found = orders(model, x, y, slopes, draws=3, seed=0)
    assert tuple(found) == CRITERIA
    assert len(found["random"]) == 3
    assert all(sorted(order) == sorted(names) for ways in found.values() for order in ways)
    assert found["loss per operation"][0][0] == "act_conv3"
    assert found["entropy of states"][0][0] == "act_conv3"
    assert found["PReLU slopes"][0] == names[::-1]


def test_slopes_rise_under_the_penalty_and_the_network_stays_as_it_was() -> None:
    model, x, y = with_one_linear_layer("conv3")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learnt = lambda penalty: prelu_slopes(
        model, ["act_conv2", "act_conv4"], x, y, steps=30, learning_rate=0.05, penalty=penalty, batch_size=20, seed=0
    )
    weak, strong = learnt(0.0), learnt(5.0)
    assert all(strong[name] > weak[name] for name in strong)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training
