"""Directions: norms of filters, zeros for zeros, tangent and normal to a lifted manifold."""

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.curvature import (
    direction_between,
    filter_normalised,
    normal_direction,
    random_direction,
    slice_1d,
    tangent_direction,
)

F64 = torch.float64


@pytest.fixture
def risk() -> ls.EmpiricalRisk:
    """Convolutions of both kinds, a norm layer, and zero and non-zero biases."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 2),
        nn.GroupNorm(1, 3),
        nn.ConvTranspose2d(3, 4, 2, bias=False),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.Linear(5, 2),
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
        model[4].bias.zero_()
        model[5].weight[1] = 0
    x = torch.randn(6, 2, 3, 3, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (x, torch.randn(6, 2, generator=generator, dtype=F64)))


def test_every_filter_has_the_networks_norm(risk: ls.EmpiricalRisk) -> None:
    drawn = torch.randn(risk.size, generator=torch.Generator().manual_seed(0), dtype=F64)
    u, own = risk.unflatten(random_direction(risk)), risk.parameters
    raw = risk.unflatten(drawn)
    for name in ("0.weight", "4.weight", "5.weight"):
        for filter_, theirs, before in zip(u[name], own[name], raw[name], strict=True):
            assert float(filter_.norm()) == pytest.approx(float(theirs.norm()))
            cosine = (filter_ * before).sum() / filter_.norm().clamp_min(1e-300) / before.norm()
            assert float(cosine) == pytest.approx(1.0 if float(theirs.norm()) else 0.0)
    for channel in range(4):
        assert float(u["2.weight"][:, channel].norm()) == pytest.approx(float(own["2.weight"][:, channel].norm()))
    for name in ("0.bias", "1.weight", "1.bias", "5.bias"):
        assert float(u[name].norm()) == pytest.approx(float(own[name].norm()))
        assert torch.allclose(u[name] / u[name].norm(), raw[name] / raw[name].norm())


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.ConvTranspose1d(6, 3, 2, groups=3),
        nn.ConvTranspose2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, groups=2),
    ],
    ids=lambda layer: f"{type(layer).__name__}, {layer.groups} groups",
)
def test_a_filter_is_what_one_output_channel_depends_on(layer: nn.Module) -> None:
    model = layer.double()
    x = torch.rand(2, model.in_channels, *(5,) * (model.weight.ndim - 2), dtype=F64) + 1
    with torch.no_grad():
        model.weight[:2] *= 100
    risk = ls.EmpiricalRisk(model, "mse", (x, model(x).detach()))
    u = risk.unflatten(random_direction(risk))["weight"]
    for channel in range(model.out_channels):
        (seen,) = torch.autograd.grad(model(x)[:, channel].sum(), model.weight)
        own = model.weight.detach()[seen != 0]
        assert len(own) == model.weight.numel() // model.out_channels
        assert float(u[seen != 0].norm()) == pytest.approx(float(own.norm()))


def test_zero_filters_are_not_divided_by(risk: ls.EmpiricalRisk) -> None:
    u = random_direction(risk)
    assert bool(torch.isfinite(u).all())
    assert not bool(risk.unflatten(u)["4.bias"].any())
    assert not bool(risk.unflatten(u)["5.weight"][1].any())
    assert bool(torch.isfinite(slice_1d(risk, u, points=3).values).all())
    assert not bool(filter_normalised(risk, torch.zeros(risk.size, dtype=F64)).any())


def test_a_filter_normalised_direction_is_scale_free(risk: ls.EmpiricalRisk) -> None:
    # Two consecutive linear maps can trade a factor; the slice must not see it.
    scaled = risk.at({
        name: tensor * {"0.weight": 8, "0.bias": 8}.get(name, 1) for name, tensor in risk.parameters.items()
    })
    u, v = risk.unflatten(random_direction(risk)), scaled.unflatten(random_direction(scaled))
    assert torch.allclose(8 * u["0.weight"], v["0.weight"])
    assert torch.allclose(u["4.weight"], v["4.weight"])


def test_unit_directions_and_seeds(risk: ls.EmpiricalRisk) -> None:
    assert float(random_direction(risk, normalisation="unit").norm()) == pytest.approx(1)
    assert torch.equal(random_direction(risk), random_direction(risk, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(random_direction(risk), random_direction(risk, generator=torch.Generator().manual_seed(1)))


def test_tangent_and_normal_to_a_lifted_manifold() -> None:
    generator = torch.Generator().manual_seed(0)
    base = ls.nets.mlp((3, 2, 2), generator=generator)
    x = torch.randn(20, 3, generator=generator, dtype=F64)
    y = ls.plant_critical_point(base, x, kind="minimum", generator=generator)
    lifted = ls.lift(base, x, "2", width=3, activation="elu", generator=generator)
    risk = ls.EmpiricalRisk(lifted.model, "mse", (x, y))
    basis = lifted.manifold.tangent_basis()
    tangent, normal = tangent_direction(lifted.manifold), normal_direction(lifted.manifold)
    assert float(tangent.norm()) == pytest.approx(1)
    assert torch.allclose(basis @ (basis.T @ tangent), tangent, atol=1e-12)
    assert float(normal.norm()) == pytest.approx(1)
    assert float((basis.T @ normal).abs().max()) < 1e-14
    H = risk.hessian()
    assert float(tangent @ (H @ tangent)) == pytest.approx(0, abs=1e-10)
    assert float(normal @ (H @ normal)) > 1e-6
    along, across = (slice_1d(risk, u, radius=1e-2, points=3).values for u in (tangent, normal))
    assert float((along - along[1]).abs().max()) < 0.05 * float((across - across[1]).abs().max())


def test_a_basis_need_not_be_orthonormal_or_independent() -> None:
    class Plane:
        def tangent_basis(self):
            return torch.tensor([[1.0, 3.0, 4.0], [0.0, 1e-3, 1e-3], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=F64)

    assert float(normal_direction(Plane())[:2].abs().max()) < 1e-12
    assert not bool(tangent_direction(Plane())[2:].any())
    assert float(tangent_direction(Plane())[1].abs()) > 0.01


class Flat:
    """A manifold with a given number of tangents in three dimensions."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def tangent_basis(self):
        return torch.eye(3, dtype=F64)[:, : self.dimension]


def test_points_have_no_tangents_and_whole_spaces_no_normals(risk: ls.EmpiricalRisk) -> None:
    assert float(normal_direction(Flat(0)).norm()) == pytest.approx(1)
    assert float(tangent_direction(Flat(3)).norm()) == pytest.approx(1)
    with pytest.raises(ls.LiftscapeError, match="the manifold is a point"):
        tangent_direction(Flat(0))
    with pytest.raises(ls.LiftscapeError, match="all 3 dimensions"):
        normal_direction(Flat(3))
    with pytest.raises(ls.LiftscapeError, match="networks with the same parameters"):
        direction_between(risk.model, nn.Linear(2, 1))
    with pytest.raises(ls.LiftscapeError, match="one entry a parameter"):
        filter_normalised(risk, torch.ones(3))
