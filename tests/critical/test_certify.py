"""Certificates against points whose kind is known: planted, lifted, on a kink, flat, or near a critical one."""

import copy
from math import inf

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.critical import certify, find_critical_point

DTYPE = torch.float64
MINIMA = {"local minimum", "degenerate local minimum"}


def mlp(activation: nn.Module, generator: torch.Generator, sizes: tuple[int, int, int] = (3, 4, 2)) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), activation, nn.Linear(sizes[1], sizes[2])).to(DTYPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DTYPE))
    return model


def planted(activation: type[nn.Module], kind: str, seed: int = 0) -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(32):
        model, x = mlp(activation(), generator), torch.randn(80, 3, generator=generator, dtype=DTYPE)
        try:
            return ls.EmpiricalRisk(
                model, "mse", (x, ls.plant_critical_point(model, x, kind=kind, generator=generator))
            )
        except ls.LiftscapeError:
            continue
    raise AssertionError("no draw is well conditioned")


def lifted(seed: int = 0, activation: str = "elu") -> tuple[ls.EmpiricalRisk, ls.Embedding]:
    risk = planted(nn.Tanh, "minimum", seed)
    x, _ = next(iter(risk.batches))
    generator = torch.Generator().manual_seed(seed)
    embedding = ls.lift(risk.model, x, "2", width=3, activation=activation, generator=generator)
    return risk.with_model(embedding.model), embedding


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kind", "expected"), [("minimum", "local minimum"), ("saddle", "strict saddle")])
def test_planted_points_of_a_tanh_network(seed, kind, expected):
    risk = planted(nn.Tanh, kind, seed)
    certificate = certify(risk)
    assert certificate.kind == expected, certificate.reason
    eigenvalues = torch.linalg.eigvalsh(risk.hessian().to_dense())
    assert certificate.inertia.triple == (int((eigenvalues < 0).sum()), 0, int((eigenvalues > 0).sum()))
    assert certificate.kink_margin == inf
    assert certificate.evidence["smallest_eigenvalue"] == pytest.approx(float(eigenvalues[0]), rel=1e-10)


@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.LeakyReLU(0.2)])
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_zeros_of_a_relu_minimum_are_its_rescalings(activation, seed):
    certificate = certify(planted(activation, "minimum", seed))
    assert (certificate.kind, certificate.degeneracy) == ("degenerate local minimum", 4)
    assert certificate.evidence["symmetries"] == {"rescaling between 0 and 2": 4}
    assert 0 < certificate.kink_margin < 1
    assert certificate.evidence["kink_layer"] == "1"


def test_the_zeros_of_a_cross_entropy_minimum_are_its_softmax_shift(generator):
    model = nn.Linear(2, 3, dtype=DTYPE)
    x = torch.randn(60, 2, generator=generator, dtype=DTYPE)
    labels = torch.randint(0, 3, (60,), generator=generator)
    search = find_critical_point(ls.EmpiricalRisk(model, "cross_entropy", (x, labels)), method="minimum")
    certificate = certify(ls.EmpiricalRisk(search.model, "cross_entropy", (x, labels)))
    assert (certificate.kind, certificate.degeneracy) == ("degenerate local minimum", 3), certificate.reason


@pytest.mark.parametrize("activation", ["elu", "relu", "leaky_relu"])
def test_a_lifted_minimum_is_degenerate_and_only_a_candidate_without_its_manifold(activation):
    risk, embedding = lifted(activation=activation)
    for known in (embedding.manifold, embedding.manifold.tangent_basis(), embedding.manifold.dimension):
        certificate = certify(risk, known_flat=known)
        assert certificate.kind == "degenerate local minimum", certificate.reason
        assert certificate.degeneracy == embedding.manifold.dimension
    assert certify(risk).kind == "minimum candidate"


def test_a_lifted_saddle_is_a_strict_saddle():
    risk = planted(nn.Tanh, "saddle")
    x, _ = next(iter(risk.batches))
    embedding = ls.lift(risk.model, x, "2", width=3, activation="elu")
    certificate = certify(risk.with_model(embedding.model), known_flat=embedding.manifold)
    base = certify(risk)
    assert certificate.kind == base.kind == "strict saddle"
    assert certificate.inertia.negative == base.inertia.negative


def test_directions_that_are_not_flat_explain_nothing(generator):
    risk, embedding = lifted()
    wrong = torch.randn(risk.size, embedding.manifold.dimension, generator=generator, dtype=DTYPE)
    certificate = certify(risk, known_flat=wrong)
    assert certificate.kind == "minimum candidate"
    assert certificate.evidence["known_flat_verified"] == 0
    with pytest.raises(ls.LiftscapeError, match=r"columns of shape \(\d+, d\).*\(5, 2\)"):
        certify(risk, known_flat=torch.ones(5, 2, dtype=DTYPE))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
@pytest.mark.parametrize("distance", [1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6])
@pytest.mark.parametrize("activation", ["elu", "leaky_relu"])
def test_near_a_lifted_point_it_is_never_wrong(seed, distance, activation):
    risk, embedding = lifted(seed, activation)
    exact = certify(risk, known_flat=embedding.manifold)
    generator = torch.Generator().manual_seed(seed)
    move = torch.randn(risk.size, generator=generator, dtype=DTYPE)
    theta = risk.flatten() + distance * move
    near = certify(risk.at(risk.unflatten(theta)), known_flat=embedding.manifold, tolerance=1e-3)
    assert near.gradient_norm > distance / 100
    assert near.kind in {"degenerate local minimum", "undecided"}, (near.kind, near.reason)
    if near.inertia.decided:
        assert near.inertia.triple == exact.inertia.triple
    strict = certify(risk.at(risk.unflatten(theta)), known_flat=embedding.manifold)
    assert strict.kind in {"degenerate local minimum", "undecided", "not critical"}


def test_a_point_with_a_gradient_is_not_critical(generator):
    model = mlp(nn.Tanh(), generator)
    x, y = torch.randn(30, 3, generator=generator, dtype=DTYPE), torch.randn(30, 2, generator=generator, dtype=DTYPE)
    certificate = certify(ls.EmpiricalRisk(model, "mse", (x, y)))
    assert certificate.kind == "not critical"
    assert "polish" in certificate.advice


def test_a_gradient_in_the_kernel_is_gradient_flat():
    model = nn.Linear(2, 1, bias=False, dtype=DTYPE)
    nn.init.constant_(model.weight, 0.5)
    # R = w₁ + w₂²: the gradient along w₁ is never seen by the Hessian.
    loss = lambda output, target: (output[0] + output[1] ** 2).sum()
    data = (torch.eye(2, dtype=DTYPE), torch.zeros(2, 1, dtype=DTYPE))
    nn.init.zeros_(model.weight)
    certificate = certify(ls.EmpiricalRisk(model, loss, data))
    assert certificate.kind == "gradient-flat"
    assert certificate.evidence["flatness"] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e2, 1e3])
@pytest.mark.parametrize("distance", [1e2, 1.0])
def test_a_soft_curvature_that_is_resolved_is_no_kernel(distance, scale, generator):
    # Strictly convex; along the softest eigenvector Newton methods that truncate see nothing.
    x = torch.randn(40, 3, generator=generator, dtype=DTYPE) * torch.tensor([scale, 1, 1 / scale], dtype=DTYPE)
    curvatures, vectors = torch.linalg.eigh(2 * x.T @ x / len(x))
    model = nn.Linear(3, 1, bias=False, dtype=DTYPE)
    with torch.no_grad():
        model.weight.copy_(distance * vectors[:, :1].T)
    certificate = certify(ls.EmpiricalRisk(model, "mse", (x, torch.zeros(40, 1, dtype=DTYPE))))
    assert certificate.gradient_norm == pytest.approx(distance * float(curvatures[0]), rel=1e-6)
    assert certificate.kind == ("not critical" if certificate.gradient_norm > 1e-9 else "undecided")


def on_the_boundary(descends: bool) -> ls.EmpiricalRisk:
    """A minimum lifted with ReLU, its bias moved so that one sample lies on the kink (theory T5 a)."""
    for seed in range(40):
        risk, embedding = lifted(seed, "relu")
        model = copy.deepcopy(embedding.model)
        x, y = next(iter(risk.batches))
        first, last = (module for module in model[2].modules() if isinstance(module, nn.Linear))
        with torch.no_grad():
            h = model[1](model[0](x))
            t = h @ first.weight.T + first.bias
            residual = model(x) - y
            for neuron in range(t.shape[1]):
                sample = int(t[:, neuron].argmin())
                shift = float(t[sample, neuron])
                # Across the kink ReLU falls less than its affine piece, so z gains its out-weights.
                slope = float(residual[sample] @ last.weight[:, neuron])
                if (slope < 0) == descends and abs(slope) > 0.1 and shift > 0:
                    first.bias[neuron] -= shift
                    last.bias += shift * last.weight[:, neuron]
                    first.bias[neuron] -= first.weight[neuron] @ h[sample] + first.bias[neuron]
                    return risk.with_model(model)
    raise AssertionError("no lift has such a neuron")


def test_a_sample_on_a_kink_without_descent_is_non_smooth_stationary():
    certificate = certify(on_the_boundary(descends=False))
    assert certificate.kind == "non-smooth stationary", certificate.reason
    assert certificate.kink_margin < 1e-12
    assert certificate.inertia is None


def test_a_sample_on_a_kink_with_a_descent_is_a_one_sided_saddle():
    risk = on_the_boundary(descends=True)
    certificate = certify(risk)
    assert certificate.kind == "one-sided saddle", certificate.reason
    assert certificate.evidence["one_sided_rate"] < 0
    assert float(risk.gradient().norm()) > 1e-6


def test_a_sample_on_a_kink_away_from_stationarity_is_not_critical(generator):
    model = mlp(nn.ReLU(), generator)
    x, y = torch.randn(30, 3, generator=generator, dtype=DTYPE), torch.randn(30, 2, generator=generator, dtype=DTYPE)
    with torch.no_grad():
        model[0].bias[0] = -(model[0].weight[0] @ x[0])
    certificate = certify(ls.EmpiricalRisk(model, "mse", (x, y)))
    assert certificate.kind == "not critical"
    assert "generalised gradient" in certificate.reason
