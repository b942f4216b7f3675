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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("mixing", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("before", [0, 3])
def test_wide_blocks_are_factorised_however_dependent(
    dtype: torch.dtype, tolerance: float, mixing: float, before: int
) -> None:
    """Y rows + R new rows = block, new rows orthonormal and R lower triangular, as one after the other gives them."""
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(6, 200_000, generator=generator, dtype=dtype)
    block = (1 - mixing) * block + mixing * block[:1]
    basis = Basis(before + 6, block.shape[1], dtype, torch.device("cpu"))
    for _ in range(before):
        basis.append(torch.randn(1, block.shape[1], generator=generator, dtype=dtype))
    scale = float(block.norm(dim=1).max())
    Y, R = basis.append(block, scale)
    assert R.shape == (6, 1 if mixing == 1 else 6)
    assert basis.departure() <= tolerance
    again = Y @ basis.rows[:before].double() + R @ basis.rows[before:].double()
    assert float((again - block).norm(dim=1).max()) <= tolerance * scale
    assert bool((R.triu(1).abs() == 0).all())
    single = Basis(before + 6, block.shape[1], dtype, torch.device("cpu"))
    single.append(basis.rows[:before])
    for row in block:
        single.append(row[None], scale)
    size = float((single.rows.double() @ basis.rows.double().T).diagonal().abs().min())
    assert size >= 1 - (1e-6 if mixing < 0.99 else 0.05 if dtype == torch.float32 else 1e-6)


def test_a_wide_block_with_a_row_of_zeros_drops_it() -> None:
    block = torch.randn(5, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    block[2] = 0
    basis = Basis(5, 100, torch.float64, torch.device("cpu"))
    R = basis.append(block)[1]
    assert R.shape == (5, 4)
    torch.testing.assert_close(R @ basis.rows, block)
