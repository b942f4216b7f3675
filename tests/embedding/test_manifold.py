"""The lifted manifold: samples are on it, what is moved off it is not, and its tangent space is the kernel of J."""

import copy

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64


@pytest.fixture
def inputs(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(40, 3, generator=generator, dtype=F64)


@pytest.mark.parametrize("activation", ["elu", "leaky_relu", "relu", "gelu"])
@pytest.mark.parametrize(("at", "width"), [("0", 3), ("2", (3, 4))])
def test_two_hundred_samples_are_on_the_manifold(
    activation: str, at: str, width: int | tuple[int, ...], inputs: torch.Tensor, generator: torch.Generator
) -> None:
    model = ls.nets.mlp((3, 2, 2))
    manifold = ls.lift(model, inputs, at, width=width, activation=activation, generator=generator).manifold
    with torch.no_grad():
        outputs = model(inputs)
        for _ in range(25):
            sample = manifold.sample(generator)
            assert manifold.contains(sample), manifold.contains(sample).reason
            assert float((sample(inputs) - outputs).abs().max()) <= 1e-12 * float(outputs.abs().max())


@pytest.mark.parametrize("parameter", ["A.weight", "A.bias", "B.weight", "B.bias"])
@pytest.mark.parametrize("at", ["0", "2"])
def test_what_is_moved_off_it_is_not_contained(
    parameter: str, at: str, inputs: torch.Tensor, generator: torch.Generator
) -> None:
    manifold = ls.lift(ls.nets.mlp((3, 2, 2)), inputs, at, width=3, activation="elu", generator=generator).manifold
    moved = copy.deepcopy(manifold.model)
    with torch.no_grad():
        moved.get_submodule(at).get_parameter(parameter).view(-1)[0] += 1e-3
    membership = manifold.contains(moved)
    assert not membership
    assert "more than" in membership.reason


def test_a_neuron_beyond_its_piece_is_not_contained(inputs: torch.Tensor, generator: torch.Generator) -> None:
    manifold = ls.lift(ls.nets.mlp((3, 2, 2)), inputs, "0", width=3, activation="relu", generator=generator).manifold
    moved = copy.deepcopy(manifold.model)
    A, B = moved.get_submodule("0.A"), moved.get_submodule("0.B")
    with torch.no_grad():
        shift = manifold.margin() * 1.5 + 1e-6 + float(A.bias.abs().max())
        A.bias -= shift
        B.bias += B.weight.sum(dim=1) * shift
    membership = manifold.contains(moved)
    assert not membership
    assert membership.margin < 0
    assert membership.gap < 1e-12


@pytest.mark.parametrize("width", [2, 4, (3, 3)])
@pytest.mark.parametrize("at", ["0", "2"])
def test_tangent_space_is_the_kernel_of_the_chart(
    at: str, width: int | tuple[int, ...], inputs: torch.Tensor, generator: torch.Generator
) -> None:
    embedding = ls.lift(ls.nets.mlp((3, 2, 2)), inputs, at, width=width, activation="elu", generator=generator)
    params = dict(embedding.model.named_parameters())
    J, basis = embedding.chart.jacobian(params), embedding.manifold.tangent_basis()
    nullity = J.shape[1] - int(torch.linalg.matrix_rank(J))
    assert embedding.manifold.dimension == nullity == basis.shape[1]
    assert float((J @ basis).norm()) <= 1e-12 * float(J.norm())
    torch.testing.assert_close(basis.T @ basis, torch.eye(nullity, dtype=F64))


def test_dimension_formula_and_corank_of_rank_deficient_maps(inputs: torch.Tensor, generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(F64)
    with torch.no_grad():
        model[2].weight.copy_(torch.outer(torch.tensor([1.0, 2.0, -1.0]), torch.tensor([1.0, -1.0, 0.5, 2.0])).to(F64))
    embedding = ls.lift(model, inputs, "2", width=2, activation="elu", generator=generator)
    params = dict(embedding.model.named_parameters())
    A, B = params["2.A.weight"].detach(), params["2.B.weight"].detach()
    rank = torch.linalg.matrix_rank
    expected = (4 - int(rank(A))) * (3 - int(rank(B)))
    assert embedding.corank == expected == embedding.chart.numerical_corank(params)
    assert expected > 0


def test_the_manifold_shrinks_with_the_data(inputs: torch.Tensor, generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 2, 2))
    few = ls.lift(model, inputs[:5], "0", width=3, activation="relu", generator=generator).manifold
    many = ls.lift(model, inputs, "0", width=3, activation="relu", generator=generator).manifold
    samples = [few.sample(generator) for _ in range(30)]
    assert all(few.contains(sample) for sample in samples)
    assert not all(many.contains(sample) for sample in samples)
    assert all(few.contains(many.sample(generator)) for _ in range(30))
