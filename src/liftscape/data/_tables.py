"""Small real data sets that come with scikit-learn."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["digits", "iris_petal_width", "standardise"]


def standardise(table: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return each column with mean 0 and sample variance 1, the sum of squares over n − 1.

    z_ij = (x_ij − x̄_j) / s_j with s_j² = Σ_i (x_ij − x̄_j)² / (n − 1); a constant column becomes zero.

    Args:
        table: n samples of d measurements, floating point.

    Returns:
        The standardised copy, same dtype.

    Example:
        >>> standardise(torch.tensor([[1.0], [2.0], [3.0]])).tolist()
        [[-1.0], [0.0], [1.0]]
    """
    centred = table - table.mean(dim=0)
    deviation = (centred.square().sum(dim=0) / max(len(table) - 1, 1)).sqrt()
    return centred / torch.where(deviation == 0, torch.ones_like(deviation), deviation)


def iris_petal_width(dtype: torch.dtype = torch.float64) -> tuple[Float[Tensor, "150 3"], Float[Tensor, "150 1"]]:
    """Return Fisher's Iris as a regression: petal width from sepal length, sepal width and petal length.

    All four columns are standardised to mean 0 and sample variance 1, so the mean squared error of the constant fit
    is 149/150.

    Source: Fisher 1936, "The use of multiple measurements in taxonomic problems", as distributed with scikit-learn.

    Args:
        dtype: floating-point dtype of both tensors.

    Returns:
        Inputs (150, 3) and targets (150, 1).

    Example:
        >>> inputs, targets = iris_petal_width()
        >>> inputs.shape, targets.shape, inputs.dtype
        (torch.Size([150, 3]), torch.Size([150, 1]), torch.float64)
    """
    from sklearn.datasets import load_iris

    table = standardise(torch.from_numpy(np.asarray(load_iris(return_X_y=True)[0], dtype=np.float64))).to(dtype)
    return table[:, :3].contiguous(), table[:, 3:].contiguous()


def digits(dtype: torch.dtype = torch.float64) -> tuple[Float[Tensor, "1797 64"], Int[Tensor, " 1797"]]:
    """Return the 8 × 8 handwritten digits with grey values in [0, 1] and class indices.

    Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", test part, as distributed with
    scikit-learn.

    Args:
        dtype: floating-point dtype of the inputs.

    Returns:
        Inputs (1797, 64), and class indices 0..9 (1797,) in int64.

    Example:
        >>> inputs, labels = digits()
        >>> inputs.shape, float(inputs.max()), labels[:3].tolist()
        (torch.Size([1797, 64]), 1.0, [0, 1, 2])
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(np.asarray(images, dtype=np.float64) / 16.0).to(dtype)
    return inputs, torch.from_numpy(np.asarray(labels, dtype=np.int64))
