"""Training goes on after a lift: what it leaves alone takes the step that it would have taken."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import liftscape as ls

F64 = torch.float64
RULES: dict[str, Callable[[nn.Module], Optimizer]] = {
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "groups": lambda model: torch.optim.AdamW([
        {"params": [model[0].weight], "lr": 0.02},
        {"params": [model[0].bias, *model[2:].parameters()], "weight_decay": 0.1},
    ]),
}


def step(model: nn.Module, rule: Optimizer, x: Tensor, y: Tensor) -> None:
    rule.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    rule.step()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("how", ["lift", "split", "fold"])
def test_what_is_left_alone_takes_the_step_that_it_would_have_taken(name: str, how: str) -> None:
    model = ls.nets.mlp((3, 5, 4, 1), "tanh")
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = x[:, :1].sin()
    if how == "fold":
        model = ls.lift(model, x, "4", width=6, activation="elu").model
    rule = RULES[name](model)
    for _ in range(5):
        step(model, rule, x, y)
    before = deepcopy(rule.state_dict())
    if how == "lift":
        new = ls.lift(model, x, "4", width=6, activation="elu").model
    elif how == "split":
        new = ls.split(model, None, "2", neuron=0, share=0.5).model
    else:
        new = ls.fold(model, x).model
    carried = ls.carry_over(rule, old=model, new=new)
    assert type(carried) is type(rule)
    trained = [parameter for group in carried.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in new.parameters()}
    step(model, rule, x, y)
    step(new, carried, x, y)
    for key in ("0.weight", "0.bias"):
        torch.testing.assert_close(
            dict(new.named_parameters())[key], dict(model.named_parameters())[key], rtol=1e-9, atol=1e-12
        )
    assert before["param_groups"] == rule.state_dict()["param_groups"]
    for _ in range(20):
        step(new, carried, x, y)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in new.parameters())


def test_an_optimizer_of_another_network_is_refused() -> None:
    model, other = ls.nets.mlp((2, 2)), ls.nets.mlp((2, 2))
    with pytest.raises(ls.LiftscapeError, match="trains 2 parameters that Sequential does not have"):
        ls.carry_over(torch.optim.SGD(other.parameters(), lr=0.1), old=model, new=model)


def test_what_is_kept_in_vectors_of_all_parameters_is_refused() -> None:
    old = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = torch.ones(4, 2)
    optimizer = torch.optim.LBFGS(old.parameters())
    lifted = ls.lift(old, x, "2").model
    assert isinstance(ls.carry_over(optimizer, old=old, new=lifted), torch.optim.LBFGS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = old(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(ls.LiftscapeError, match="make a new LBFGS"):
        ls.carry_over(optimizer, old=old, new=lifted)


def test_what_was_not_trained_stays_untrained_and_what_was_merged_starts_afresh() -> None:
    model = ls.nets.mlp((3, 3, 3, 1), "tanh")
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    lifted = ls.lift(model, x, "2", width=4, activation="elu").model
    rule = torch.optim.SGD([*lifted[2].parameters(), *lifted[4].parameters()], lr=0.1, momentum=0.9)
    step(lifted, rule, x, x[:, :1])
    # The first map is not trained; the merged one has the name and the shape that it had in the model before.
    folded = ls.fold(lifted, x).model
    carried = ls.carry_over(rule, old=lifted, new=folded)
    trained = {id(parameter) for group in carried.param_groups for parameter in group["params"]}
    assert {name for name, own in folded.named_parameters() if id(own) not in trained} == {"0.weight", "0.bias"}
    assert {id(own) for own in carried.state} == {id(own) for own in folded[4].parameters()}
    square = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.5), nn.Linear(3, 3)).to(F64)
    rule = torch.optim.Adam(square.parameters())
    step(square, rule, x, x)
    other = ls.fold(square, x, at="1", method="least-squares").model
    assert other[2].weight.shape == square[2].weight.shape
    assert len(ls.carry_over(rule, old=square, new=other).state) == 0
