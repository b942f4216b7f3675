"""Curvature of the outputs against second derivatives taken directly, and the points at which it vanishes."""

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.critical import certify, find_critical_point
from tests.critical.test_certify import DTYPE, lifted, mlp


def planted(activation: nn.Module, outputs: int, kind: str = "minimum") -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(0)
    for _ in range(64):
        model, x = mlp(activation, generator, (2, 3, outputs)), torch.randn(60, 2, generator=generator, dtype=DTYPE)
        try:
            return ls.EmpiricalRisk(
                model, "mse", (x, ls.plant_critical_point(model, x, kind=kind, generator=generator))
            )
        except ls.LiftscapeError:
            continue
    raise AssertionError("no draw is well conditioned")


def second_part(risk: ls.EmpiricalRisk) -> Tensor:
    """Σ_i ∂_iℓ ∇²f_i by torch's own second derivative of the outputs, weighted by slopes that are held fixed."""
    ((x, y),) = list(risk.batches)
    output = risk.model(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(risk.loss(output, y), output)
    weighted = lambda theta: (slope * torch.func.functional_call(risk.model, risk.unflatten(theta), (x,))).sum()
    return torch.autograd.functional.hessian(weighted, risk.flatten())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2)])
def test_it_vanishes_for_one_hidden_layer_with_scalar_output_and_pieces(activation):
    risk = planted(activation, outputs=1)
    assert float(risk.value()) > 1e-6
    certificate = certify(risk)
    assert certificate.kind == "degenerate local minimum"
    assert certificate.evidence["curvature_of_outputs"] <= 1e-13 * certificate.evidence["largest_eigenvalue"]
    assert certificate.evidence["may_be_truly_bad"] is True


@pytest.mark.parametrize(
    ("activation", "outputs", "kind"),
    [(nn.Tanh(), 1, "minimum"), (nn.Tanh(), 2, "saddle"), (nn.ReLU(), 2, "minimum"), (nn.ReLU(), 2, "saddle")],
)
def test_else_it_is_that_of_the_second_derivatives_of_the_outputs(activation, outputs, kind):
    risk = planted(activation, outputs, kind)
    evidence = certify(risk).evidence
    expected = float(torch.linalg.matrix_norm(second_part(risk)))
    assert expected > 1e-6
    assert evidence["curvature_of_outputs"] == pytest.approx(expected, rel=1e-8)
    assert evidence["may_be_truly_bad"] is False


def test_cross_entropy_of_a_linear_network_has_none(generator):
    x = torch.randn(60, 2, generator=generator, dtype=DTYPE)
    labels = torch.randint(0, 3, (60,), generator=generator)
    risk = ls.EmpiricalRisk(nn.Linear(2, 3, dtype=DTYPE), "cross_entropy", (x, labels))
    evidence = certify(risk, search=find_critical_point(risk, method="minimum")).evidence
    assert evidence["curvature_of_outputs"] < 1e-13
    assert evidence["may_be_truly_bad"] is True


def test_a_lift_keeps_some():
    risk, embedding = lifted()
    assert certify(risk, known_flat=embedding.manifold).evidence["curvature_of_outputs"] > 1e-6


@pytest.mark.parametrize(("activation", "bad"), [(nn.ReLU(), True), (nn.Tanh(), False)])
def test_only_a_minimum_that_may_be_truly_bad_stays_one_under_every_share_of_a_split(activation, bad):
    risk = planted(activation, outputs=1)
    assert certify(risk).evidence["may_be_truly_bad"] is bad
    splits = [
        ls.split(risk.model, None, "0", neuron=neuron, share=share).model
        for neuron in range(3)
        for share in (-0.5, 0.5)
    ]
    assert any(certify(risk.with_model(wider)).kind == "strict saddle" for wider in splits) is not bad


def test_it_is_left_out_away_from_critical_points_and_for_losses_of_ones_own(generator):
    risk = planted(nn.Tanh(), 1)
    away = certify(risk.at(risk.unflatten(risk.flatten() + 0.1)))
    assert away.kind == "not critical"
    own = certify(ls.EmpiricalRisk(risk.model, lambda z, y: ((z - y) ** 2).mean(), risk.batches))
    assert own.kind == "local minimum"
    assert all("curvature_of_outputs" not in certificate.evidence for certificate in (away, own))
