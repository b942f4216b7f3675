"""The part of the Hessian that is due to the curvature of the network's outputs."""

from typing import Any

import torch

from liftscape.critical._spectrum import Spectrum
from liftscape.curvature import gauss_newton
from liftscape.risk import EmpiricalRisk
from liftscape.samples import loss_name

__all__ = ["output_curvature"]

_UNTOLD = 10.0


def output_curvature(risk: EmpiricalRisk, spectrum: Spectrum) -> dict[str, Any]:
    """Return ‖H₂‖_F, H₂ = Σ_i ∂_iℓ ∇²f_i = ∇²R − G with the Gauss-Newton matrix G, and what it leaves open.

    A critical point is truly bad if no embedding into a wider network makes it a strict saddle. A copied neuron adds
    the signs of its own block of ±H₂ to the inertia, so that H₂ = 0 is necessary. It holds at critical points with one
    hidden layer, scalar output, a piecewise-linear σ and no out-weight zero.

    Source: Zhang et al. 2021 (arXiv 2105.14573), truly-bad critical points; theory section 6.

    Args:
        risk: the empirical risk at a critical point.
        spectrum: of its Hessian.

    Returns:
        ``curvature_of_outputs``, ‖H₂‖_F, and ``may_be_truly_bad``, whether that is at most ten times the error bound of
        the eigenvalues; empty for losses other than mse and cross_entropy.
    """
    if loss_name(risk.loss) is None:
        return {}
    dense = (spectrum.vectors * spectrum.eigenvalues) @ spectrum.vectors.T
    length = float(torch.linalg.matrix_norm(dense - gauss_newton(risk).to_dense()))
    vanishes = length <= _UNTOLD * spectrum.uncertainty
    return {"curvature_of_outputs": length, "may_be_truly_bad": vanishes}
