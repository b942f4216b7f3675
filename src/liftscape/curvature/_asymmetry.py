"""When products lack more symmetry than rounding explains."""

import torch

__all__ = ["lacks_symmetry", "symmetric_to_rounding"]


def symmetric_to_rounding(asymmetry: float, scale: float, dtype: torch.dtype, tolerance: float = 0.0) -> bool:
    """Tell whether ‖H − Hᵀ‖ ≤ max(√eps, tolerance)·‖H‖, the rule by which a matrix counts as symmetric.

    Float32 products of networks lack about 1e-6 of ‖H‖, a hundredth of √eps or less.

    Source: derived.

    Args:
        asymmetry: the measured part of ‖H − Hᵀ‖.
        scale: the largest |eigenvalue|.
        dtype: of the products.
        tolerance: relative, what is asked for.

    Returns:
        Whether it is.

    Example:
        >>> symmetric_to_rounding(1e-6, 1.0, torch.float32), symmetric_to_rounding(1e-6, 1.0, torch.float64)
        (True, False)
    """
    return asymmetry <= max(torch.finfo(dtype).eps ** 0.5, tolerance) * scale


def lacks_symmetry(asymmetry: float, scale: float) -> str:
    """Say by how much.

    Source: none.

    Args:
        asymmetry: the measured part of ‖H − Hᵀ‖.
        scale: the largest |eigenvalue|.

    Returns:
        Half a sentence.

    Example:
        >>> lacks_symmetry(2.0, 4.0)
        'the products are not those of a symmetric operator: they lack symmetry by 2 where the largest |value| is 4'
    """
    return (
        f"the products are not those of a symmetric operator: they lack symmetry by {asymmetry:.2g} where the largest "
        f"|value| is {scale:.2g}"
    )
