"""Trace and diagonal against dense matrices: right on indefinite ones, with intervals that cover."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from scipy.stats import t as student
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import Estimate, diagonal, layers_of, trace, trace_by_layer
from liftscape.curvature._estimate import estimate_of, student_quantile

F64 = torch.float64
METHODS = ["hutchinson", "hutch++"]


def symmetric(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A matrix with the given spectrum and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=F64))[0]
    return (Q * eigenvalues) @ Q.T


def trace_minus_88() -> Tensor:
    """An indefinite matrix of 400 rows: large eigenvalues of both signs and a bulk, with trace −88."""
    generator = torch.Generator().manual_seed(1)
    bulk = torch.randn(380, generator=generator, dtype=F64)
    outliers = torch.cat([torch.linspace(10, 24, 10, dtype=F64), torch.linspace(-24, -10, 10, dtype=F64)])
    eigenvalues = torch.cat([bulk, outliers])
    return symmetric(eigenvalues + (-88 - eigenvalues.sum()) / len(eigenvalues))


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_covers_a_negative_trace(method: str) -> None:
    H = trace_minus_88()
    assert abs(float(H.trace()) + 88) < 1e-9
    assert float(torch.linalg.eigvalsh(H).max()) > 20
    made = [trace(H, method=method, generator=torch.Generator().manual_seed(seed)) for seed in range(100)]
    covered = sum(low <= -88 <= high for low, high in (each.interval for each in made))
    assert covered >= 95
    # An interval that covers by being idle would be wider than what the variance explains.
    spread = math.sqrt(2 * (float(H.square().sum()) - float(H.diagonal().square().sum())) / 100)
    width = sum(each.interval[1] - each.interval[0] for each in made) / len(made)
    expected = 2 * student.ppf(0.995, 99) * spread
    assert 0.9 < width / expected < 1.1 if method == "hutchinson" else width < 0.6 * expected


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_covers_a_vanishing_trace_at_its_own_rate(method: str) -> None:
    eigenvalues = torch.linspace(-24, 24, 200, dtype=F64)
    H = symmetric(eigenvalues)
    made = [
        trace(H, method=method, confidence=0.8, probes=60, generator=torch.Generator().manual_seed(seed))
        for seed in range(300)
    ]
    covered = sum(low <= 0 <= high for low, high in (each.interval for each in made))
    assert abs(covered - 240) < 4 * math.sqrt(300 * 0.8 * 0.2)
    assert all(each.probes == (60 if method == "hutchinson" else 20) and each.products == 60 for each in made)


def test_hutchinsons_variance_is_that_of_signs() -> None:
    H = symmetric(torch.linspace(-3, 5, 40, dtype=F64))
    expected = 2 * float(H.square().sum() - H.diagonal().square().sum())
    made = trace(H, probes=20_000)
    assert abs(made.standard_error**2 * made.probes / expected - 1) < 0.05
    assert abs(made.value - 40) < 4 * math.sqrt(expected / 20_000)


def test_hutch_plus_plus_is_exact_on_low_rank_and_better_where_few_eigenvalues_dominate() -> None:
    eigenvalues = torch.zeros(150, dtype=F64)
    eigenvalues[:6] = torch.tensor([100.0, -80.0, 60.0, -40.0, 20.0, 10.0])
    made = trace(symmetric(eigenvalues), method="hutch++", probes=30)
    assert abs(made.value - 70) < 1e-9
    assert made.standard_error < 1e-9
    assert made.interval[0] <= 70 <= made.interval[1]
    eigenvalues[6:] = torch.linspace(-1, 1, 144, dtype=F64)
    H = symmetric(eigenvalues)
    assert trace(H, method="hutch++").standard_error < 0.5 * trace(H).standard_error


@pytest.mark.parametrize("probes", [4, 5, 6, 7, 31])
def test_hutch_plus_plus_spends_what_it_was_given(probes: int) -> None:
    columns, calls = [], []
    H = symmetric(torch.linspace(-1, 2, 50, dtype=F64)).numpy()
    counted = LinearOperator(H.shape, matvec=H.dot, matmat=lambda block: columns.append(block.shape[1]) or H @ block)
    made = trace(counted, method="hutch++", probes=probes, progress=lambda *at: calls.append(at))
    assert made.products == sum(columns) == probes
    assert calls[-1] == (probes, probes)


@pytest.mark.parametrize("method", METHODS)
def test_an_operator_smaller_than_the_probes(method: str) -> None:
    H = torch.tensor([[1.0, 2.0], [2.0, -4.0]], dtype=F64)
    made = trace(H, method=method)
    assert made.interval[0] <= -3 <= made.interval[1]
    if method == "hutch++":
        assert made.value == pytest.approx(-3, abs=1e-12)


def test_a_diagonal_matrix_leaves_only_rounding() -> None:
    H = torch.diag(torch.randn(300, generator=torch.Generator().manual_seed(0))) / 3
    made = trace(H)
    assert made.interval[0] <= float(H.double().trace()) <= made.interval[1]
    assert made.interval[1] - made.interval[0] < 1e-3


@given(st.integers(2, 200), st.floats(0.01, 0.999))
def test_quantiles_are_students(probes: int, confidence: float) -> None:
    assert student_quantile(confidence, probes) == pytest.approx(
        student.ppf((1 + confidence) / 2, probes - 1), rel=1e-9
    )


def test_same_seed_same_bytes_and_any_operator() -> None:
    H = symmetric(torch.linspace(-1, 2, 30, dtype=F64))
    assert trace(H) == trace(H, generator=torch.Generator().manual_seed(0))
    assert trace(H) != trace(H, generator=torch.Generator().manual_seed(1))
    assert trace(aslinearoperator(H.numpy())).value == pytest.approx(trace(H).value)
    assert Estimate(**trace(H).to_dict() | {"interval": trace(H).interval}) == trace(H)


def test_products_that_are_not_finite_make_no_number() -> None:
    H = torch.eye(10, dtype=F64)
    H[3, 3] = math.inf
    for method in METHODS:
        made = trace(H, method=method)
        assert all(math.isnan(value) for value in (made.value, made.standard_error, *made.interval))


@pytest.fixture
def risk() -> ls.EmpiricalRisk:
    """A small convolutional network with a norm layer at a point with curvature of both signs."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
    x = torch.randn(20, 1, 4, 4, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (x, torch.randn(20, 2, generator=generator, dtype=F64)))


def test_layers_add_up_and_cover_their_blocks(risk: ls.EmpiricalRisk) -> None:
    H, layers = risk.hessian(), layers_of(risk.parameters)
    dense = H.to_dense()
    made = trace_by_layer(H, layers)
    assert list(made) == ["0", "3", "5"]
    assert sum(each.value for each in made.values()) == pytest.approx(trace(H).value, rel=1e-10)
    covered = total = 0
    for seed in range(25):
        made = trace_by_layer(dense, layers, generator=torch.Generator().manual_seed(seed))
        for name, index in layers.items():
            low, high = made[name].interval
            covered += low <= float(dense.diagonal()[index].sum()) <= high
            total += 1
    assert covered >= 0.95 * total


def test_the_diagonal_sums_to_the_trace_and_covers_its_entries(risk: ls.EmpiricalRisk) -> None:
    H = risk.hessian()
    dense = H.to_dense()
    exact = diagonal(H, exact=True)
    assert torch.allclose(exact.values, dense.diagonal(), atol=1e-12)
    assert (exact.products, exact.probes, float(exact.standard_errors.sum())) == (H.size, 0, 0.0)
    assert torch.equal(exact.interval[0], exact.values)
    assert float(exact.values.sum()) == pytest.approx(float(dense.trace()), rel=1e-12)
    made = diagonal(H, probes=70)
    assert float(made.values.sum()) == pytest.approx(trace(H, probes=70).value, rel=1e-10)
    z_scores = (made.values - dense.diagonal()).abs() / made.standard_errors
    assert float((z_scores < student_quantile(0.99, 70)).double().mean()) > 0.9


def test_the_diagonals_standard_error_is_that_of_its_row() -> None:
    H = symmetric(torch.linspace(-3, 5, 20, dtype=F64)) + 1e6 * torch.eye(20, dtype=F64)
    made = diagonal(H, probes=4000)
    expected = (H.square().sum(dim=1) - H.diagonal().square()).sqrt() / math.sqrt(4000)
    assert torch.allclose(made.standard_errors, expected, rtol=0.1)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: trace(torch.eye(3), probes=1), "at least 2 probes"),
        (lambda: trace(torch.eye(3), method="hutch++", probes=3), "at least 4 probes"),
        (lambda: trace(torch.eye(3), confidence=99.0), "between 0 and 1, but 99"),
        (lambda: trace(torch.ones(2, 3)), "must be square"),
        (lambda: diagonal(torch.eye(3), probes=1), "at least 2 probes"),
        (lambda: trace_by_layer(torch.eye(3), {"fc": slice(0, 4)}), r"layer fc must hold entries of a vector \(3,\)"),
        (lambda: trace_by_layer(torch.eye(3), {"fc": torch.tensor([3])}), "layer fc"),
        (lambda: trace_by_layer(torch.eye(3), {"fc": slice(1, 1)}), "layer fc"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(ask, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ask()


def test_magnitude_widens_by_ten_roundings() -> None:
    made = estimate_of(torch.ones(5), confidence=0.9, products=5, method="m", exact=2.0, magnitude=4.0, eps=0.5)
    assert made.interval == (3.0 - 20, 3.0 + 20)


SWAP = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64)
ONES = torch.ones(20, 20, dtype=F64)


@pytest.mark.parametrize(
    ("H", "method", "probes"),
    [
        *((SWAP, "hutchinson", probes) for probes in (2, 3, 5, 10)),
        *((ONES, "hutchinson", probes) for probes in (3, 5, 10, 20)),
        *((symmetric(torch.linspace(-3, 5, 12, dtype=F64)), "hutch++", probes) for probes in (4, 5, 8)),
    ],
)
def test_few_probes_cover_as_often_as_they_say(H: Tensor, method: str, probes: int) -> None:
    draws, trials = torch.Generator().manual_seed(0), 400
    made = [trace(H, method=method, probes=probes, generator=draws) for _ in range(trials)]
    covered = sum(low <= float(H.trace()) <= high for low, high in (each.interval for each in made))
    assert covered >= trials * 0.99 - 3 * math.sqrt(trials * 0.99 * 0.01)


def test_from_thirty_probes_on_the_interval_is_students() -> None:
    samples = torch.tensor([1.0, 2.0] * 15, dtype=F64)
    made, few = (
        estimate_of(each, confidence=0.9, products=30, method="m", lengths=torch.full_like(each, 10.0))
        for each in (samples, samples[:-1])
    )
    assert made.standard_error == pytest.approx(float(samples.std()) / math.sqrt(30))
    assert few.standard_error == pytest.approx(math.sqrt(200 / 29))
    assert few.interval[1] - few.value == pytest.approx(student_quantile(0.9, 29) * few.standard_error)


def test_the_interval_of_few_probes_is_scaled_as_the_matrix_is() -> None:
    for scale in (1e-200, 1e160):
        made, one = trace(scale * SWAP, probes=5), trace(SWAP, probes=5)
        assert [end / scale for end in made.interval] == pytest.approx(list(one.interval), rel=1e-12)
