"""Every interval of the curvature package covers as often as it says, on spectra made to spoil it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from liftscape.curvature import diagonal, spectral_density, trace, trace_by_layer

F64 = torch.float64
# What a nominal coverage may fall to.
LAW = {0.95: 0.93, 0.99: 0.97}
SEEDS = 400


def rotated(values: list[float] | np.ndarray, seed: int = 0) -> Tensor:
    """Return Q diag(values) Qᵀ, symmetric to the last bit."""
    values = np.asarray(values, dtype=np.float64)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    A = (Q * values) @ Q.T
    return torch.from_numpy((A + A.T) / 2)


MATRICES = {
    "swap": torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64),
    "two ones": torch.ones(2, 2, dtype=F64),
    "ones": torch.ones(40, 40, dtype=F64),
    "one dominates": rotated([100.0, *np.linspace(-1, 1, 59)]),
    "one dominates below": rotated([-100.0, *np.linspace(0, 1, 59)]),
    "two of either sign": rotated([100.0, -100.0, *np.linspace(-1, 1, 58)]),
    "linear": rotated(np.linspace(-3, 5, 60)),
    "hidden pair": torch.block_diag(1e3 * torch.ones(2, 2, dtype=F64), torch.eye(20, dtype=F64)),
    "hidden swap": torch.block_diag(
        1e3 * torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64), rotated([1.0] * 9 + [2.0])
    ),
}


def generator(seed: int) -> torch.Generator:
    """Return a generator of a seed that no default has."""
    return torch.Generator().manual_seed(1000 + seed)


def covers(
    interval: Callable[[int, float], tuple[float, float]], exact: float, seeds: int, strict: bool = False
) -> None:
    """Check the law over seeds; of hundreds of cases at the nominal coverage, chance takes some below it."""
    for confidence, least in LAW.items():
        slack = 1e-9 * (1 + abs(exact))
        ends = [interval(seed, confidence) for seed in range(seeds)]
        share = np.mean([low - slack <= exact <= high + slack for low, high in ends])
        chance = binom.ppf(1e-4, seeds, confidence) / seeds
        assert share >= (least if strict else min(least, chance)), (confidence, share)


TRACES = [
    (name, method, probes)
    for name in MATRICES
    for method in ("hutchinson", "hutch++")
    for probes in (4, 5, 7, 10, 13, 19, 30, 60, 100, 150)
]


def check_trace(name: str, method: str, probes: int, seeds: int) -> None:
    """Check the interval of a trace."""
    H = MATRICES[name]
    covers(
        lambda seed, confidence: (
            trace(H, method=method, probes=probes, confidence=confidence, generator=generator(seed)).interval
        ),
        float(np.trace(H.numpy())),
        seeds,
    )


@pytest.mark.parametrize(("name", "method", "probes"), [*TRACES[1::13], ("swap", "hutch++", 5)])
def test_traces_quickly(name: str, method: str, probes: int) -> None:
    check_trace(name, method, probes, 60)


@pytest.mark.long
@pytest.mark.parametrize(("name", "method", "probes"), TRACES)
def test_traces(name: str, method: str, probes: int) -> None:
    check_trace(name, method, probes, SEEDS)


@pytest.mark.long
@pytest.mark.parametrize("probes", [5, 30, 100])
def test_traces_of_blocks(probes: int) -> None:
    H = MATRICES["hidden pair"] + rotated(np.linspace(-1, 1, 22))
    for name, block in {"pair": slice(0, 2), "rest": slice(2, 22)}.items():
        covers(
            lambda seed, confidence, name=name, block=block: (
                trace_by_layer(H, {name: block}, probes=probes, confidence=confidence, generator=generator(seed))[
                    name
                ].interval
            ),
            float(H.diagonal()[block].sum()),
            SEEDS,
        )


def check_diagonal(name: str, probes: int, seeds: int) -> None:
    """Check the intervals of the first two entries of a diagonal, each on its own."""
    H = MATRICES[name]
    made = [diagonal(H, probes=probes, generator=generator(seed)) for seed in range(seeds)]
    for entry in (0, 1):
        covers(
            lambda seed, confidence, entry=entry: tuple(
                float(end[entry]) for end in replace(made[seed], confidence=confidence).interval
            ),
            float(H[entry, entry]),
            seeds,
        )


@pytest.mark.parametrize(("name", "probes"), [("swap", 3), ("hidden swap", 7), ("linear", 30)])
def test_diagonals_quickly(name: str, probes: int) -> None:
    check_diagonal(name, probes, 60)


@pytest.mark.long
@pytest.mark.parametrize("probes", [2, 3, 5, 7, 10, 20, 30, 100])
@pytest.mark.parametrize("name", MATRICES)
def test_diagonals(name: str, probes: int) -> None:
    check_diagonal(name, probes, SEEDS)


SPECTRA = {
    "one of a hundred": [-1.0, *np.linspace(0.1, 1, 99)],
    "one next to the threshold": [-0.01, *np.linspace(0.01, 1, 99)],
    "half": [*np.linspace(-1, -0.01, 50), *np.linspace(0.01, 1, 50)],
    "none": [*np.linspace(0.05, 1, 100)],
    "all": [*np.linspace(-1, -0.05, 100)],
    "far apart": [-1e-3, *np.logspace(-2, 6, 99)],
    "three in a cluster": [-2.0, -2.0, -2.0, *[1.0] * 97],
    "two of ten": [-1.0, -0.5, *np.linspace(0.2, 2, 8)],
}
SHARES = [(name, probes, steps) for name in SPECTRA for probes in (1, 2, 5) for steps in (2, 6, 10, 20)]


def check_share(name: str, probes: int, steps: int, seeds: int) -> None:
    """Check the interval of the share of negative eigenvalues, and that many steps make it useful."""
    values = np.asarray(SPECTRA[name])
    H = rotated(values)
    made = [spectral_density(H, probes=probes, steps=steps, generator=generator(seed)) for seed in range(seeds)]
    exact = float((values < 0).mean())
    covers(lambda seed, confidence: made[seed].mass_below(0.0, confidence)[1:], exact, seeds)
    widths = []
    for density in made[:25]:
        value, low, high = density.mass_below(0.0, 0.95)
        assert 0 <= low <= value <= high <= 1
        widths.append(high - low)
    # Ends are counts of eigenvalues, so that one interval of ten eigenvalues may be wider than most.
    if probes == 5 and steps == 20 and name not in {"one next to the threshold", "far apart"}:
        assert np.mean(widths) <= 0.25


@pytest.mark.parametrize(
    ("name", "probes", "steps"), [*SHARES[::11], ("one of a hundred", 5, 20), ("one of a hundred", 30, 6)]
)
def test_shares_quickly(name: str, probes: int, steps: int) -> None:
    check_share(name, probes, steps, 25)


@pytest.mark.long
@pytest.mark.parametrize(("name", "probes", "steps"), SHARES)
def test_shares(name: str, probes: int, steps: int) -> None:
    check_share(name, probes, steps, SEEDS)


@pytest.mark.long
@pytest.mark.parametrize("probes", [5, 30, 100])
@pytest.mark.parametrize("name", ["one dominates", "one dominates below", "two of either sign", "linear"])
def test_means(name: str, probes: int) -> None:
    H = MATRICES[name]
    # Four steps are exact for polynomials of degree 7.
    made = [spectral_density(H, probes=probes, steps=4, generator=generator(seed)) for seed in range(SEEDS)]
    for power in (1, 2):
        exact = float((torch.linalg.eigvalsh(H) ** power).mean())
        mean = lambda seed, confidence, power=power: made[seed].mean(lambda x: x**power, confidence)[1:]
        covers(mean, exact, SEEDS)


def test_a_share_in_single_precision_claims_no_more_than_its_digits() -> None:
    H = rotated(SPECTRA["one of a hundred"]).float()
    for seed in range(20):
        _, low, high = spectral_density(H, probes=5, steps=20, generator=generator(seed)).mass_below(0.0, 1 - 1e-4)
        assert low <= 0.01 <= high


def test_one_probe_of_an_exhausted_space_is_a_clopper_pearson_interval() -> None:
    _, low, high = spectral_density(rotated(SPECTRA["three in a cluster"]), steps=40).mass_below(0.0, 0.95)
    assert 0 < low <= 0.03 <= high < 0.2


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "method", "probes"),
    [("one dominates", "hutchinson", 30), ("one dominates", "hutchinson", 100), ("swap", "hutch++", 5)],
)
def test_traces_that_fell_short_keep_the_law(name: str, method: str, probes: int) -> None:
    H = MATRICES[name]
    covers(
        lambda seed, confidence: (
            trace(H, method=method, probes=probes, confidence=confidence, generator=generator(seed)).interval
        ),
        float(np.trace(H.numpy())),
        SEEDS,
        strict=True,
    )


@pytest.mark.long
@pytest.mark.parametrize(("probes", "steps"), [(5, 20), (30, 6), (30, 10)])
def test_shares_that_fell_short_keep_the_law(probes: int, steps: int) -> None:
    H = rotated(SPECTRA["one of a hundred"])
    made = [spectral_density(H, probes=probes, steps=steps, generator=generator(seed)) for seed in range(SEEDS)]
    covers(lambda seed, confidence: made[seed].mass_below(0.0, confidence)[1:], 0.01, SEEDS, strict=True)
