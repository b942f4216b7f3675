"""Descents of higher order: polynomials whose order is known, the toy of arXiv 2505.13582, and minima without one."""

import itertools
from collections.abc import Callable
from math import sqrt

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

import liftscape as ls
from liftscape.critical import certify, higher_order_descent
from tests.critical.test_certify import DTYPE, lifted, mlp, planted
from tests.embedding.test_width import toy

W = 1.0258


def polynomial(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> ls.EmpiricalRisk:
    """A function of three weights, as risk of a linear network at the origin."""
    model = nn.Linear(3, 1, bias=False, dtype=DTYPE)
    nn.init.zeros_(model.weight)
    loss = lambda output, _: 1 + function(*output[:, 0])
    return ls.EmpiricalRisk(model, loss, (torch.eye(3, dtype=DTYPE), torch.zeros(3, 1, dtype=DTYPE)))


@pytest.mark.parametrize(
    ("function", "order", "constant"),
    [
        (lambda x, y, z: x**3 - 3 * x * y**2 + z**2, 3, 1.0),
        (lambda x, y, z: 2 * y * x**2 + z**2, 3, 4 / (3 * sqrt(3))),
        (lambda x, y, z: y**2 + z**2 - 5 * x**4, 4, 5.0),
        # Along the null line itself R rises; it falls on the parabola z = −x² only.
        (lambda x, y, z: z**2 / 2 + z * x**2 + 0.3 * x**4 + y**2, 4, 0.2),
        (lambda x, y, z: z**2 + y**2 + x**5, 5, 1.0),
        # Falls in a cone around x = y alone, (x + y)/√2 = h: h⁴/4 − 9h⁴/20.
        (lambda x, y, z: z**2 + (x**4 + y**4) / 2 - 1.8 * x**2 * y**2, 4, 0.2),
    ],
)
def test_order_and_constant_of_polynomials(function, order, constant):
    risk = polynomial(function)
    found = higher_order_descent(risk)
    assert found is not None
    assert found.order == order
    assert found.constant == pytest.approx(constant, rel=2e-2)
    assert list(found.steps) == sorted(found.steps)
    assert float(found.direction.norm()) == pytest.approx(1.0)
    fallen = float(risk.value()) - float(risk.value(risk.unflatten(found.lower)))
    assert fallen == pytest.approx(found.decreases[-1], rel=1e-9)
    certificate = certify(risk)
    assert (certificate.kind, certificate.evidence["higher_order_descent"]) == ("saddle", order)
    assert "order" in certificate.advice


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y, z: z**2 + y**2 + x**4,
        lambda x, y, z: x**4 + y**4 + z**2,
        lambda x, y, z: z**2 / 2 + z * x**2 + 0.7 * x**4 + y**2,
        lambda x, y, z: (z - x**2) ** 2 + y**2,
        # Two that fall away from the point only.
        lambda x, y, z: z**2 + y**2 + x**4 - 4 * x**5,
        lambda x, y, z: z**2 + y**2 + torch.where(x.abs() < 0.03, x**4, -(x**4)),
        lambda x, y, z: z**2 + y**2 - x**2,
        lambda x, y, z: x**2 + y**2 + z**2,
        lambda x, y, z: z**2 + y**2 + 1e-3 * x,
    ],
)
def test_no_descent_of_higher_order_is_claimed_of_polynomials_without(function):
    risk = polynomial(function)
    assert higher_order_descent(risk) is None
    assert certify(risk).kind != "saddle"


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_the_origin_of_a_deep_linear_network_falls_to_the_order_of_its_depth(depth, generator):
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False, dtype=DTYPE) for _ in range(depth)))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    x, y = (torch.randn(30, 2, generator=generator, dtype=DTYPE) for _ in range(2))
    certificate = certify(ls.EmpiricalRisk(model, "mse", (x, y)))
    assert certificate.kind == "saddle", certificate.reason
    assert certificate.inertia.triple == (0, 4 * depth, 0)
    # R moves by −2⟨C, W_L…W₁⟩, C = E[y xᵀ] / 2, most along matrices of rank one that all have length L^(−1/2).
    largest = float(torch.linalg.matrix_norm(y.T @ x / len(x) / 2, 2))
    assert certificate.evidence["higher_order_descent"] == depth
    assert certificate.evidence["higher_order_constant"] <= 1.02 * 2 * largest * depth ** (-depth / 2)
    assert certificate.evidence["higher_order_constant"] >= 0.9 * 2 * largest * depth ** (-depth / 2)


def with_second_neuron(weight: float) -> ls.EmpiricalRisk:
    """The toy with a second neuron tanh(weight·x) whose out-weight is zero."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Tanh(), nn.Linear(2, 1, bias=False)).to(DTYPE)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[W], [weight]], dtype=DTYPE))
        model[2].weight.copy_(torch.tensor([[1.0, 0.0]], dtype=DTYPE))
    return toy().with_model(model)


def residual_of_toy() -> tuple[Tensor, Tensor]:
    """Its inputs and residuals."""
    risk = toy()
    ((x, y),) = list(risk.batches)
    return x[:, 0], (torch.tanh(W * x) - y)[:, 0]


def critical_weight() -> float:
    """The root w near 0.123472 of Σ r tanh(wx), at which the second neuron is critical."""
    x, r = residual_of_toy()
    return brentq(lambda w: float(r @ torch.tanh(w * x)), 0.05, 0.3, xtol=1e-15, rtol=1e-14)


@pytest.mark.parametrize(("factor", "lowest"), [(0.0, -1.471), (1.0, -0.711), (-1.0, -0.711)])
def test_the_strict_saddles_of_the_toy(factor, lowest):
    assert critical_weight() == pytest.approx(0.123472, abs=1e-6)
    risk = with_second_neuron(factor * critical_weight())
    certificate = certify(risk)
    assert certificate.kind == "strict saddle", certificate.reason
    # The toy sums squares over four samples; mse takes their mean.
    assert 4 * certificate.evidence["smallest_eigenvalue"] == pytest.approx(lowest, abs=1e-3)
    assert higher_order_descent(risk) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_the_saddle_of_the_toy_that_is_not_strict_falls_to_third_order(sign):
    risk = with_second_neuron(sign * W)
    certificate = certify(risk)
    assert [4 * value for value in certificate.evidence["spectrum"]] == pytest.approx([0, 0, 0.967, 10.75], abs=1e-2)
    assert certificate.kind == "saddle", certificate.reason
    assert certificate.inertia.triple == (0, 2, 2)
    found = higher_order_descent(risk)
    # With a₁ − s/√2, a₂ + s/√2 and w₂ + t, R moves by (s/√2)·t²·κ, κ = Σ r x² tanh''(w̄x), least at t² = 2s² = 2/3.
    x, r = residual_of_toy()
    phi = torch.tanh(W * x)
    kappa = float(r @ (x**2 * -2 * phi * (1 - phi**2)))
    assert found.order == certificate.evidence["higher_order_descent"] == 3
    assert 4 * found.constant == pytest.approx(abs(kappa) * 2 / (3 * sqrt(6)), rel=2e-2)
    # The same descent along a₂ = −h², w₂ = ±w̄ + h is one of fourth order.
    falls = [float(risk.value(curved(risk, h))) - float(risk.value()) for h in (0.08, 0.04, 0.02)]
    assert all(fall < 0 for fall in falls)
    assert [falls[k] / falls[k + 1] for k in range(2)] == pytest.approx([16, 16], rel=0.15)


def curved(risk: ls.EmpiricalRisk, h: float) -> dict[str, Tensor]:
    """The toy's parameters at a₁ = 1 + h², a₂ = ∓h², w₂ = ±w̄ ± h."""
    first, last = (tensor.clone() for tensor in risk.parameters.values())
    sign = float(first[1, 0].sign())
    first[1, 0] += sign * h
    last[0, 0] += h**2
    last[0, 1] -= sign * h**2
    return dict(zip(risk.parameters, (first, last), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_without_out_weight_makes_a_minimum_with_scalar_output_a_saddle_of_third_order(seed):
    base = scalar_minimum(seed)
    assert certify(base).kind == "local minimum"
    risk = base.with_model(ls.split(base.model, None, "0", neuron=0, share=0.0).model)
    certificate = certify(risk)
    assert (certificate.kind, certificate.evidence["higher_order_descent"]) == ("saddle", 3)
    constant = certificate.evidence["higher_order_constant"]
    # R moves by (s/√2)·tᵀKt/2, K = H₂ of the neuron over its out-weight; on an eigenvector least at |t|² = 2s² = 2/3.
    ((x, y),) = list(base.batches)
    first, last = base.model[0], base.model[2]
    bordered = torch.cat([x, torch.ones(len(x), 1, dtype=DTYPE)], dim=1)
    slope = 2 * (base.model(x) - y)[:, 0].detach() / len(x)
    phi = torch.tanh(first(x)[:, 0]).detach()
    K = bordered.T @ ((slope * -2 * phi * (1 - phi**2))[:, None] * bordered)
    assert last.weight.shape == (1, 2)
    # Where K is indefinite, both of its ends are local maxima of the fall.
    ends = torch.linalg.eigvalsh(K)[[0, -1]].abs() / (3 * sqrt(6))
    assert min(abs(constant / float(end) - 1) for end in ends) < 2e-2


def scalar_minimum(seed: int) -> ls.EmpiricalRisk:
    """A planted minimum of a network with two tanh neurons and one output."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(32):
        model, x = mlp(nn.Tanh(), generator, (2, 2, 1)), torch.randn(40, 2, generator=generator, dtype=DTYPE)
        try:
            return ls.EmpiricalRisk(
                model, "mse", (x, ls.plant_critical_point(model, x, kind="minimum", generator=generator))
            )
        except ls.LiftscapeError:
            continue
    raise AssertionError("no draw is well conditioned")


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_split_that_stays_a_minimum_has_none(share):
    base = toy()
    risk = base.with_model(ls.split(base.model, None, "0", neuron=0, share=share).model)
    assert higher_order_descent(risk) is None
    assert certify(risk).kind == "minimum candidate"


@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_a_lifted_minimum_has_none(activation):
    risk, _ = lifted(activation=activation)
    certificate = certify(risk)
    assert certificate.kind == "minimum candidate"
    assert certificate.evidence["higher_order_descent"] is None
    assert certificate.evidence["null_directions_searched"] == certificate.degeneracy


def test_a_relu_minimum_with_its_rescalings_has_none():
    risk = planted(nn.ReLU, "minimum", 0)
    assert higher_order_descent(risk) is None
    assert certify(risk).evidence["higher_order_descent"] is None


def test_the_same_seed_gives_the_same_bytes_and_the_model_stays(generator):
    risk = with_second_neuron(W)
    before = {name: tensor.clone() for name, tensor in risk.model.state_dict().items()}
    seed = torch.get_rng_state()
    first, second = (higher_order_descent(risk, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert torch.equal(torch.get_rng_state(), seed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in risk.model.state_dict().items())


@pytest.mark.parametrize("seed", range(4))
def test_a_third_affine_layer_at_zero_makes_a_strict_saddle_one_of_third_order(seed: int) -> None:
    """Theory T4: with rank-deficient factors (4, 4, 6) becomes (0, 18, 2), and the descent is still there."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(30, width, generator=generator, dtype=torch.float64) for width in (3, 2))
    data = (x - x.mean(dim=0), y - y.mean(dim=0))
    found = []
    for widths in ((3, 2, 2), (3, 2, 2, 2)):
        maps = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        model = torch.nn.Sequential(*maps).to(torch.float64)
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        found.append(ls.certify(ls.EmpiricalRisk(model, "mse", data)))
    two, three = found
    assert (two.kind, two.inertia.triple) == ("strict saddle", (4, 4, 6))
    assert (three.kind, three.inertia.triple) == ("saddle", (0, 18, 2))
    assert three.evidence["higher_order_descent"] == 3
