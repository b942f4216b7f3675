"""Where θ runs to infinity ‖∇R‖ becomes small without a critical point nearby; Newton's steps at 60 digits say so."""

import mpmath
import pytest
import torch
from mpmath import mp

import liftscape as ls

from .functions import F64, risk_of

# Parameters of tanh 3-2-1 on Iris petal width, at which searches in float64 end with ‖∇R‖ ≤ 1e-12.
ENDLESS = {
    0.051648774: (
        -0.3488299420660848,
        0.32882578597071804,
        2.4412379574910545,
        73.59571381651853,
        -57.71898367579949,
        32.6443585013482,
        -1.1222063958849713,
        18.80022947618044,
        0.748713739792415,
        0.5349156549510892,
        0.03171368475663003,
    ),
    0.056459116: (
        0.12034258821472042,
        -0.07628065160143699,
        -0.7248865105776875,
        -15.544962316760175,
        -7.3891078130736565,
        5.351598146558716,
        0.09074438934950749,
        38.08244407387448,
        -1.9695138101354646,
        0.19967574907707283,
        -0.08506045947577344,
    ),
    0.051887738: (
        -1.5831290524393749,
        9.09206169588426,
        -18.193413380864023,
        0.3273105432363587,
        -0.30608083531954206,
        -2.617232225225888,
        -10.782529965040888,
        1.2493527252715912,
        -0.546562298685148,
        -0.726715850292306,
        0.020583214145139746,
    ),
    0.253283557: (
        2.425258603745987,
        -1.4486690828229312,
        -1.7402683147516032,
        19.868316036596116,
        -54.021706041871056,
        40.30730320322638,
        5.023753083188998,
        8.86480828919084,
        3.6259472083055853e-14,
        0.9124450657890154,
        -0.3041483552609673,
    ),
    0.051854499: (
        15.018776786995941,
        -23.37709737900784,
        18.965811482483907,
        -0.3294575122280388,
        0.31532698878304044,
        2.5598592419544652,
        8.837153445262144,
        -1.2101898784949434,
        0.5436606571913595,
        0.7327704283679574,
        0.023577528938185432,
    ),
}
FINITE = {
    0.043029730: (
        -25.31425908052881,
        39.20201889974374,
        -115.63389366499719,
        -0.04630215604635634,
        0.027692424523665996,
        0.5345531879654347,
        163.31197801845317,
        -0.3707619196367452,
        0.32832422045792353,
        2.7763731015441073,
        0.5360907136516347,
    ),
    0.051613615: (
        21.51817625862429,
        -16.602235665469955,
        2.9195638676870757,
        -0.34865592976500637,
        0.3287719937272389,
        2.43822448659996,
        8.82121601271797,
        -1.1205385250990012,
        0.5354526663880149,
        0.749104178792558,
        0.031160602209439878,
    ),
}


def newton_lengths(theta: tuple[float, ...], steps: int) -> list[float]:
    """Return the lengths of Newton's steps on mean (a·tanh(Wx + b) + c − y)² at 60 digits, by hand."""
    x, y = ls.data.iris_petal_width()
    with mp.workdps(60):
        rows = [[mp.mpf(float(entry)) for entry in row] for row in x]
        targets = [mp.mpf(float(entry)) for entry in y.reshape(-1)]
        point, lengths = [mp.mpf(entry) for entry in theta], []
        for _ in range(steps):
            gradient, hessian = mp.zeros(11, 1), mp.zeros(11, 11)
            for row, target in zip(rows, targets, strict=True):
                _add_sample(point, row, target, gradient, hessian)
            step = mpmath.lu_solve(hessian, -gradient)
            point = [entry + step[k] for k, entry in enumerate(point)]
            lengths.append(float(mpmath.norm(step)))
    return lengths


def _add_sample(point, row, target, gradient, hessian) -> None:
    """Add a sample's ∇ and ∇² of ½(f − y)²; θ = (W row by row, b, a, c)."""
    inputs = [*row, mp.mpf(1)]
    # Where the parameters of neuron j stand: its weights and its bias.
    places = [(0, 1, 2, 6), (3, 4, 5, 7)]
    out = (8, 9)
    t = [mpmath.tanh(mpmath.fdot(zip((point[k] for k in place), inputs, strict=True))) for place in places]
    first = [1 - value**2 for value in t]
    residual = sum(point[out[j]] * t[j] for j in (0, 1)) + point[10] - target
    slope = [mp.mpf(0)] * 11
    slope[10] = mp.mpf(1)
    for j in (0, 1):
        slope[out[j]] = t[j]
        for place, entry in zip(places[j], inputs, strict=True):
            slope[place] = point[out[j]] * first[j] * entry
            hessian[place, out[j]] += residual * first[j] * entry
            hessian[out[j], place] += residual * first[j] * entry
            for other, second in zip(places[j], inputs, strict=True):
                hessian[place, other] += residual * point[out[j]] * -2 * t[j] * first[j] * entry * second
    for k in range(11):
        gradient[k] += residual * slope[k]
        for m in range(11):
            hessian[k, m] += slope[k] * slope[m]


def iris_at(theta: tuple[float, ...]) -> ls.EmpiricalRisk:
    risk = ls.EmpiricalRisk(ls.nets.mlp((3, 2, 1)), "mse", ls.data.iris_petal_width())
    return risk.at(risk.unflatten(torch.tensor(theta, dtype=F64)))


@pytest.mark.parametrize("value", ENDLESS)
def test_a_small_gradient_on_the_way_to_infinity_is_no_critical_point(value: float) -> None:
    risk = iris_at(ENDLESS[value])
    assert float(risk.value()) == pytest.approx(value, abs=1e-9)
    assert float(risk.gradient().norm()) <= 1e-12
    assert ls.certify(risk).kind in {"undecided", "not critical"}
    assert ls.certify(risk, max_parameters=5).kind in {"undecided", "not critical"}
    assert ls.find_critical_point(risk).status != "converged"


@pytest.mark.parametrize("value", FINITE)
def test_a_far_but_finite_minimum_is_one(value: float) -> None:
    risk = iris_at(FINITE[value])
    search = ls.find_critical_point(risk)
    assert search.status == "converged"
    assert ls.certify(risk.with_model(search.model)).kind == "local minimum"


@pytest.mark.long
def test_newton_s_steps_at_sixty_digits_agree() -> None:
    for theta in ENDLESS.values():
        first, second, third = newton_lengths(theta, 3)
        assert min(second / first, third / second) > 0.25
        assert first > 0.1
    for theta in FINITE.values():
        first, second, _ = newton_lengths(theta, 3)
        assert second <= first / 4
        assert first < 1e-3


TAILS = {
    "exponential": lambda t: torch.exp(-t),
    "sigmoid": lambda t: torch.sigmoid(-t),
    "softplus": lambda t: torch.nn.functional.softplus(-t),
    "tanh": lambda t: -torch.tanh(t),
    "gelu": lambda t: torch.nn.functional.gelu(-t),
    "silu": lambda t: -torch.nn.functional.silu(-t),
    "squares": lambda t: 1 / (1 + t**2),
    "logistic loss": lambda t: torch.nn.functional.binary_cross_entropy_with_logits(t, torch.ones_like(t)),
}
DECIDED = {
    "local minimum",
    "degenerate local minimum",
    "minimum candidate",
    "strict saddle",
    "saddle",
    "one-sided saddle",
}


@pytest.mark.parametrize("constant", [0.0, 1.0])
@pytest.mark.parametrize("distance", [5.0, 20.0, 35.0, 60.0, 200.0, 3e4])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_the_tail_of_a_function_that_falls_for_ever_has_no_critical_point(tail, distance, constant, bend) -> None:
    """R(p) = ±(q·p)² + tail(r·p) + c, q ⊥ r: R falls for ever along r, until it underflows."""
    draws = torch.Generator().manual_seed(int(distance))
    q, r = torch.linalg.qr(torch.randn(3, 2, generator=draws, dtype=F64))[0].T
    function = lambda p: bend * (q @ p) ** 2 + TAILS[tail](r @ p) + constant
    certificate = ls.certify(risk_of(function, distance * r))
    assert certificate.kind not in DECIDED, certificate.reason


@pytest.mark.parametrize("distance", [10.0, 18.0, 20.0, 40.0, 800.0])
@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_saturation_is_seen_without_a_dense_hessian(distance: float, bend: float) -> None:
    """(1 − tanh p)² ± q² falls for ever along p."""
    function = lambda p: (1 - torch.tanh(p[0])) ** 2 + bend * p[1] ** 2
    certificate = ls.certify(risk_of(function, [distance, 0.0]), max_parameters=1)
    assert certificate.kind not in DECIDED, certificate.reason
