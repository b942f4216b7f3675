"""Paths on lifted manifolds: every point of them is on the manifold, and what cannot be joined is refused."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64


def outputs_move(manifold: "ls.LiftedManifold", other: nn.Module, inputs: torch.Tensor) -> float:
    path = manifold.path(other)
    with torch.no_grad():
        expected = manifold.base(inputs)
        largest = 0.0
        for step in range(41):
            network = path(step / 40)
            assert manifold.contains(network), manifold.contains(network).reason
            largest = max(largest, float((network(inputs) - expected).abs().max() / expected.abs().max()))
    return largest


@pytest.mark.parametrize("activation", ["elu", "relu", "leaky_relu", "hardtanh", "relu6", "gelu"])
@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("at", ["0", "2"])
def test_outputs_stay_and_every_point_is_on_the_manifold(
    activation: str, width: int, at: str, generator: torch.Generator
) -> None:
    model = ls.nets.mlp((3, 2, 2))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    manifold = ls.lift(model, inputs, at, width=width, activation=activation, generator=generator).manifold
    assert outputs_move(manifold, manifold.sample(generator), inputs) <= 1e-11


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_deficient_maps(rank: int, generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 2))
    with torch.no_grad():
        model[0].weight.copy_(rank * torch.outer(torch.ones(2), torch.tensor([1.0, -2.0, 0.5])))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    manifold = ls.lift(model, inputs, "0", width=3, activation="relu", generator=generator).manifold
    assert outputs_move(manifold, manifold.sample(generator), inputs) <= 1e-11


def test_dead_neurons_move_freely(generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 1))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    manifold = ls.lift(
        model, inputs, "0", width=5, activation="relu", generator=generator, pieces=(0, 1, 1, 1, 0)
    ).manifold
    assert outputs_move(manifold, manifold.sample(generator), inputs) <= 1e-11


def test_ends_are_the_two_networks(generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 1))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    manifold = ls.lift(model, inputs, "2", width=2, activation="elu", generator=generator).manifold
    other = manifold.sample(generator)
    path = manifold.path(other)
    for network, end in ((path(0.0), manifold.model), (path(1.0), other)):
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), end.parameters(), strict=True))
    largest_step = {n: max(distances(path, n)) for n in (500, 5000)}
    assert largest_step[5000] <= 0.2 * largest_step[500]


def distances(path: Callable[[float], nn.Module], count: int) -> list[float]:
    points = [torch.cat([p.detach().flatten() for p in path(t / count).parameters()]) for t in range(count + 1)]
    return [float((after - before).norm()) for before, after in pairwise(points)]


def test_at_width_rank_two_components_are_told_apart(generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 2))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    manifold = ls.lift(model, inputs, "2", width=2, activation="elu", generator=generator).manifold
    own = torch.linalg.det(manifold.model.get_submodule("2.A").weight)
    joined = set()
    for _ in range(12):
        other = manifold.sample(generator)
        same = bool(own * torch.linalg.det(other.get_submodule("2.A").weight) > 0)
        joined.add(same)
        if same:
            assert outputs_move(manifold, other, inputs) <= 1e-11
        else:
            with pytest.raises(ls.LiftscapeError, match="different components"):
                manifold.path(other)
    assert joined == {True, False}


def test_refusals(generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 2))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    two_layers = ls.lift(model, inputs, "2", width=(3, 3), activation="elu", generator=generator).manifold
    with pytest.raises(ls.LiftscapeError, match="one inserted layer, but 2 were inserted"):
        two_layers.path(two_layers.sample(generator))
    manifold = ls.lift(model, inputs, "2", width=3, activation="elu", generator=generator).manifold
    other = manifold.sample(generator)
    with torch.no_grad():
        other.get_submodule("2.A").weight[0, 0] += 1e-3
    with pytest.raises(ls.LiftscapeError, match="not on the manifold"):
        manifold.path(other)
