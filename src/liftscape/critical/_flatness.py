"""How gradient-flat a point is: the share of the gradient that the Hessian cannot see."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FLAT", "flatness", "flatness_of_spectrum"]

FLAT = 0.9
# Curvatures below this share of the largest cannot reduce a gradient that is not small within the local model.
_TRUNCATION = 1e-6


def flatness(gradient: Float[Tensor, " M"], hessian: Float[Tensor, "M M"]) -> float:
    """Return r = ‖Hp + g‖ / (‖H‖_F ‖p‖ + ‖g‖), p the least-squares Newton step −H⁺g.

    r is near 1 where the gradient lies in the Hessian's kernel: there Newton methods stop although the point is not
    critical. It is 0 where Newton's step solves Hp = −g. Curvatures below 1e-6 of the largest count as zero.

    Source: Frye et al. 2020 (arXiv 2003.10397), section 2, gradient-flat regions.

    Args:
        gradient: g, (M,).
        hessian: H, (M, M), symmetric.

    Returns:
        r in [0, 1]; 0 at a vanishing gradient.

    Example:
        >>> flatness(torch.tensor([0.0, 1.0]), torch.diag(torch.tensor([1.0, 0.0])))
        1.0
        >>> flatness(torch.tensor([1.0, 0.0]), torch.diag(torch.tensor([1.0, 0.0])))
        0.0
    """
    eigenvalues, vectors = torch.linalg.eigh(hessian)
    return float(flatness_of_spectrum(eigenvalues[None], (vectors.T @ gradient)[None])[0])


def flatness_of_spectrum(eigenvalues: Float[Tensor, "K M"], components: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
    """Return r from the eigenvalues of H and the components Vᵀg, for K points at once."""
    size = eigenvalues.abs()
    seen = size > _TRUNCATION * size.amax(dim=1, keepdim=True)
    step = torch.where(seen, components / torch.where(seen, eigenvalues, 1.0), 0.0)
    residual = torch.where(seen, 0.0, components).norm(dim=1)
    scale = eigenvalues.norm(dim=1) * step.norm(dim=1) + components.norm(dim=1)
    return torch.where(scale > 0, residual / torch.where(scale > 0, scale, 1.0), 0.0)
