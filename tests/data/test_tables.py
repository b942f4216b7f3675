import csv
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch

import liftscape as ls


def test_iris_petal_width_is_the_published_table_standardised() -> None:
    path = Path(sklearn.__file__).parent / "datasets" / "data" / "iris.csv"
    with path.open() as file:
        rows = [list(map(float, row[:4])) for row in list(csv.reader(file))[1:]]
    table = np.array(rows)
    expected = (table - table.mean(axis=0)) / table.std(axis=0, ddof=1)
    inputs, targets = ls.data.iris_petal_width()
    np.testing.assert_allclose(torch.cat([inputs, targets], dim=1).numpy(), expected, atol=1e-14)
    assert inputs.is_contiguous()
    assert targets.is_contiguous()


def test_digits_are_grey_values_with_ten_classes() -> None:
    inputs, labels = ls.data.digits()
    assert inputs.shape == (1797, 64)
    assert float(inputs.min()) == 0.0
    assert torch.equal(inputs * 16, (inputs * 16).round())
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_as_asked(dtype: torch.dtype) -> None:
    assert {tensor.dtype for tensor in ls.data.iris_petal_width(dtype)} == {dtype}
    assert ls.data.digits(dtype)[0].dtype == dtype


def test_a_constant_column_is_standardised_to_zero() -> None:
    table = torch.tensor([[2.0, 1.0], [2.0, 2.0], [2.0, 3.0]], dtype=torch.float64)
    assert ls.data.standardise(table).tolist() == [[0.0, -1.0], [0.0, 0.0], [0.0, 1.0]]
