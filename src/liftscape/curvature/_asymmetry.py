"""When products lack more symmetry than rounding explains."""

import torch

__all__ = ["lacks_symmetry", "symmetric_to_rounding", "symmetry_shows"]

# Measured on float32 networks with batch normalisation in training mode: products lack 4e-7 of the largest |value| on
# data around 0, 4e-4 around 300, where the values are still right to 1e-3, and 1e-2 around 1,000, where they are up to
# ten times too large. An operator that is not symmetric lacks of the order of 1.
_MOST = 1e-2
# A bound so many times what was asked for is worth a word.
_FAR = 10.0


def symmetric_to_rounding(asymmetry: float, scale: float, dtype: torch.dtype, tolerance: float = 0.0) -> bool:
    """Tell whether ‖H − Hᵀ‖ ≤ max(0.01, √eps, tolerance)·‖H‖, up to which rounding may be all that products lack.

    Rounding grows with what cancels inside the network, so that no multiple of eps bounds it; what it leaves is part of
    the bounds. A wrong operator that is symmetric to 1 % passes as well, with bounds as wide.

    Source: derived.

    Args:
        asymmetry: the measured part of ‖H − Hᵀ‖.
        scale: the largest |eigenvalue|.
        dtype: of the products.
        tolerance: relative, what is asked for.

    Returns:
        Whether it is.

    Example:
        >>> symmetric_to_rounding(1e-3, 1.0, torch.float32), symmetric_to_rounding(0.1, 1.0, torch.float32)
        (True, False)
    """
    return asymmetry <= max(_MOST, torch.finfo(dtype).eps ** 0.5, tolerance) * scale


def symmetry_shows(asymmetry: float, scale: float, tolerance: float) -> bool:
    """Tell whether what products lack of symmetry puts the bounds far above what was asked for.

    Source: none.

    Args:
        asymmetry: the measured part of ‖H − Hᵀ‖.
        scale: the largest |eigenvalue|.
        tolerance: relative, what is asked for.

    Returns:
        Whether it is more than ten times the tolerance.

    Example:
        >>> symmetry_shows(1e-6, 1.0, 1e-6), symmetry_shows(1e-4, 1.0, 1e-6)
        (False, True)
    """
    return asymmetry > _FAR * tolerance * scale


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
        'the products lack symmetry by 2 where the largest |value| is 4'
    """
    return f"the products lack symmetry by {asymmetry:.2g} where the largest |value| is {scale:.2g}"
