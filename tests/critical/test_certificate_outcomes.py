"""What a certificate carries, when it refuses, and that it changes nothing."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.critical import certify, find_critical_point

DTYPE = torch.float64


def noisy(model: nn.Module, generator: torch.Generator, dtype: torch.dtype = DTYPE) -> ls.EmpiricalRisk:
    x = torch.randn(40, 3, generator=generator, dtype=DTYPE)
    y = torch.randn(40, 2, generator=generator, dtype=DTYPE)
    return ls.EmpiricalRisk(model.to(dtype), "mse", (x.to(dtype), y.to(dtype)))


def test_a_search_that_diverges_is_never_critical(generator):
    risk = noisy(nn.Linear(3, 2), generator)
    search = find_critical_point(risk)
    assert certify(risk, search=search).kind == "local minimum"
    diverging = dataclasses.replace(search, status="diverging", reason="the parameters run to infinity")
    certificate = certify(risk, search=diverging)
    assert (certificate.kind, certificate.inertia) == ("diverging", None)
    assert certificate.reason == "the parameters run to infinity."


def test_the_certificate_turns_into_json_with_its_evidence(generator):
    risk = noisy(nn.Linear(3, 2), generator)
    certificate = certify(find_and_place(risk))
    written = json.loads(certificate.to_json())
    assert written["kind"] == certificate.kind == "local minimum"
    assert written["kink_margin"] == "inf"
    evidence = written["evidence"]
    assert len(evidence["spectrum"]) == evidence["parameters"] == 8
    assert (evidence["dtype"], evidence["tolerance"], evidence["samples"]) == ("torch.float64", 1e-9, 40)
    assert evidence["eigenvalue_error_bound"] < 1e-11 < evidence["smallest_eigenvalue"]
    assert written["degeneracy"] == written["inertia"]["zero"] == 0


def find_and_place(risk: ls.EmpiricalRisk) -> ls.EmpiricalRisk:
    return risk.with_model(find_critical_point(risk, method="minimum").model)


def test_long_spectra_are_left_out(generator):
    x, y = torch.randn(600, 501, generator=generator, dtype=DTYPE), torch.zeros(600, 1, dtype=DTYPE)
    model = nn.Linear(501, 1, bias=False, dtype=DTYPE)
    nn.init.zeros_(model.weight)
    certificate = certify(ls.EmpiricalRisk(model, "mse", (x, y)))
    assert certificate.kind == "local minimum"
    assert certificate.evidence["spectrum"] is None


def test_the_dense_hessian_is_taken_up_to_max_parameters(generator):
    risk = noisy(nn.Linear(3, 2), generator)
    large, dense = (certify(risk, max_parameters=most) for most in (7, 8))
    assert (large.kind, dense.kind) == ("not critical", "not critical")
    assert (large.inertia, large.evidence.get("spectrum")) == (None, None)
    assert dense.inertia is not None


def test_float32_is_sent_to_float64(generator):
    risk = noisy(nn.Linear(3, 2), generator, torch.float32)
    solved = find_critical_point(risk, tolerance=1e-5)
    certificate = certify(risk.with_model(solved.model))
    assert certificate.kind in {"not critical", "undecided"}
    assert certificate.advice.startswith("convert model and data to float64")


def test_a_function_without_second_derivative_is_named(generator):
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardsigmoid(), nn.Linear(4, 2))
    with pytest.raises(ls.LiftscapeError, match=r"without a second derivative.*hardsigmoid"):
        certify(noisy(model, generator))


def test_points_without_finite_gradient_are_not_critical(generator):
    model = nn.Linear(3, 2, dtype=DTYPE)
    nn.init.constant_(model.weight, 1e200)
    certificate = certify(noisy(model, generator))
    assert certificate.kind == "not critical"
    assert "not finite" in certificate.reason


def test_batch_norm_in_training_mode_leaves_two_zeros_a_channel():
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, eps=1e-2), nn.Tanh(), nn.Linear(3, 2)).to(DTYPE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DTYPE))
        x = torch.randn(80, 3, generator=generator, dtype=DTYPE)
        try:
            y = ls.plant_critical_point(model, x, kind="minimum", generator=generator)
        except ls.LiftscapeError:
            continue
        certificate = certify(ls.EmpiricalRisk(model, "mse", (x, y)))
        assert (certificate.kind, certificate.degeneracy) == ("degenerate local minimum", 6), certificate.reason
        assert certificate.evidence["symmetries"]["scale of 0 before 1"] == 3
        return
    raise AssertionError("no draw is well conditioned")


def at_a_curvature_jump(sign: float) -> ls.EmpiricalRisk:
    """R(b) = ±(ELU(b) − b) + b²/10 near b = 0, where the first sample lies on ELU's kink and the second far off it."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ELU()).to(DTYPE)
    nn.init.ones_(model[0].weight).requires_grad_(False)
    nn.init.zeros_(model[0].bias)
    loss = lambda output, target: (output * target).sum() + (output[1, 0] - 2) ** 2 / 10
    return ls.EmpiricalRisk(
        model, loss, (torch.tensor([[0.0], [2.0]], dtype=DTYPE), torch.tensor([[sign], [-sign]], dtype=DTYPE))
    )


def test_where_the_curvature_jumps_the_hessian_is_that_of_one_side():
    # Left of 0 the curvature is 1/5 ± 1, right of it 1/5.
    rising, falling = certify(at_a_curvature_jump(1.0)), certify(at_a_curvature_jump(-1.0))
    assert (rising.kind, rising.gradient_norm) == ("undecided", 0.0)
    assert (falling.kind, falling.evidence["one_sided_descent"]) == ("one-sided saddle", "curvature")
    assert falling.evidence["one_sided_rate"] == pytest.approx(-0.8, rel=1e-4)


def test_a_critical_point_that_may_lie_across_a_kink_is_undecided():
    # R = ½(leaky(w) − 0)² has its minimum on the kink; just beside it the Newton step reaches the kink.
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.LeakyReLU(0.5)).to(DTYPE)
    nn.init.constant_(model[0].weight, 1e-10)
    data = (torch.ones(1, 1, dtype=DTYPE), torch.zeros(1, 1, dtype=DTYPE))
    certificate = certify(ls.EmpiricalRisk(model, "mse", data))
    assert certificate.kind == "undecided"
    assert "other side of a kink" in certificate.reason


def test_nothing_of_the_users_is_changed(generator):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2)).to(DTYPE)
    risk = noisy(model, generator)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seed, mode = torch.get_rng_state(), [module.training for module in model.modules()]
    first, second = certify(risk), certify(risk)
    assert first.to_json() == second.to_json()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), seed)
    assert [module.training for module in model.modules()] == mode
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
