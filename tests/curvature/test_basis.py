"""The basis of every Krylov space is orthonormal to rounding, however long its rows are."""

import pytest
import torch

from liftscape.curvature._basis import Basis


@pytest.mark.parametrize(
    ("size", "dtype", "tolerance"), [(4_000_000, torch.float32, 2e-6), (3000, torch.float64, 1e-14)]
)
def test_long_rows_have_unit_norm_and_are_orthogonal(size: int, dtype: torch.dtype, tolerance: float) -> None:
    basis = Basis(3, size, dtype, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(1, size, generator=generator, dtype=dtype)
    basis.append(first)
    # A second row that is almost the first, so that most of it cancels.
    basis.append(first + 1e-2 * torch.randn(1, size, generator=generator, dtype=dtype))
    rows = basis.rows.double()
    assert float((rows @ rows.T - torch.eye(2, dtype=torch.float64)).abs().max()) <= tolerance
    assert basis.departure() <= tolerance
