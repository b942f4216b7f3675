"""A spectrum multiplied by any number is found as well as the spectrum itself: nothing is measured against 1."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from tests.curvature.spectra import F64, rotated
from torch import Tensor

from liftscape.curvature import eigenpairs, newton_step, partial_inertia, spectral_density, trace
from liftscape.operators import as_operator

F32 = torch.float32
VALUES = torch.cat([torch.linspace(-38, -1, 49), torch.linspace(0.5, 40, 151)]).to(F64)
SCALES = [
    (F64, scale) for scale in (1e-300, 1e-160, 1e-60, 1e-13, 1.0, 1e13, 1e160, 1e300)
] + [(F32, scale) for scale in (1e-36, 1e-30, 1e-13, 1.0, 1e13, 1e20, 1e36)]  # fmt: skip


def scaled(dtype: torch.dtype, scale: float) -> Tensor:
    return (rotated(VALUES) * scale).to(dtype)


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("k", [2, 80])
def test_both_ends_are_found_at_any_scale(dtype: torch.dtype, scale: float, k: int) -> None:
    found = eigenpairs(scaled(dtype, scale), k)
    assert set(found.status.values()) == {"converged"}
    exact = torch.cat([VALUES[:k], VALUES[-k:]])
    slack = 1e-9 if dtype == F64 else 1e-4
    torch.testing.assert_close(found.values / scale, exact, rtol=0, atol=slack)
    assert bool(((found.values / scale - exact).abs() <= found.residuals / scale + slack).all())
    assert 0 < float(found.residuals.max()) / scale < 1e-2


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_every_sign_is_counted_at_any_scale(dtype: torch.dtype, scale: float) -> None:
    found = partial_inertia(scaled(dtype, scale))
    assert (found.negative_at_least, found.complete) == (49, True)
    assert found.smallest / scale == pytest.approx(-38, rel=1e-4)
    assert found.largest / scale == pytest.approx(40, rel=1e-4)
    assert 0 < found.tolerance / scale < 0.1
    # Ten times the gradient norm reaches from 0 past three of the negative eigenvalues.
    hidden = partial_inertia(scaled(dtype, scale), gradient_norm=0.3 * scale)
    assert hidden.negative_at_least == 46


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_the_density_has_all_its_nodes_at_any_scale(dtype: torch.dtype, scale: float) -> None:
    found = spectral_density(scaled(dtype, scale), steps=30, probes=2)
    assert found.nodes.shape == (2, 30)
    one = spectral_density(scaled(dtype, 1.0), steps=30, probes=2)
    torch.testing.assert_close(found.nodes / scale, one.nodes, rtol=1e-3, atol=1e-3)
    assert found.upper / scale == pytest.approx(one.upper, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1.0, 1e160])
def test_the_spread_of_a_trace_is_there_at_any_scale(scale: float) -> None:
    found, one = (trace(scaled(F64, each), probes=40) for each in (scale, 1.0))
    assert found.value / scale == pytest.approx(one.value, rel=1e-9)
    assert found.standard_error / scale == pytest.approx(one.standard_error, rel=1e-9)


@pytest.mark.parametrize(
    ("dtype", "scale", "slope"),
    [
        *((F64, scale, slope) for scale in (1e-150, 1e-60, 1.0, 1e60, 1e150) for slope in (1e-150, 1.0, 1e150)),
        *((F32, scale, slope) for scale in (1e-18, 1.0, 1e18) for slope in (1e-18, 1.0, 1e18)),
        (F32, 1e-30, 1e-30),
        (F32, 1e30, 1e30),
    ],
)
def test_newtons_step_does_not_mind_the_scales_of_gradient_and_hessian(
    dtype: torch.dtype, scale: float, slope: float
) -> None:
    A = torch.diag(torch.tensor([-1.0, 2.0, 4.0], dtype=dtype)) * scale
    step = newton_step(as_operator(A), torch.tensor([1.0, 2.0, -4.0], dtype=dtype) * slope, 1e-4 * scale)
    expected = torch.tensor([1.0, -1.0, 1.0], dtype=F64) * (slope / scale)
    torch.testing.assert_close(step.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [F64, F32])
def test_an_operator_of_zeros_has_a_spectrum_of_zeros(dtype: torch.dtype) -> None:
    zero = torch.zeros(200, 200, dtype=dtype)
    found = eigenpairs(zero, 2)
    assert found.values.tolist() == [0.0] * 4
    assert set(found.status.values()) == {"converged"}
    counts = partial_inertia(zero)
    assert (counts.negative_at_least, counts.positive_at_least, counts.complete) == (0, 0, True)
    assert spectral_density(zero).nodes.tolist() == [[0.0]]


def test_powers_of_two_change_no_digit_of_the_result() -> None:
    one, large = (eigenpairs(rotated(VALUES) * scale, 3) for scale in (1.0, 2.0**200))
    assert torch.equal(one.values * 2.0**200, large.values)
    assert torch.equal(one.vectors, large.vectors)
    assert one.products == large.products


def test_recorded_products_are_those_of_the_operator(tmp_path: Path) -> None:
    A, left = scaled(F64, 1e-60), [10**9]

    def multiply(vector: np.ndarray) -> np.ndarray:
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError
        return A.numpy() @ vector

    H = LinearOperator(A.shape, matvec=multiply, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    expected = eigenpairs(H, 2).to_json()
    left[0] = 40
    with pytest.raises(InterruptedError):
        eigenpairs(H, 2, checkpoint=tmp_path)
    left[0] = 10**9
    assert eigenpairs(H, 2, checkpoint=tmp_path).to_json() == expected
