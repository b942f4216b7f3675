"""The numbers that a certificate carries."""

from typing import Any

from liftscape.critical._kinks import KinkMargin
from liftscape.critical._spectrum import Spectrum

__all__ = ["kink_evidence", "spectrum_evidence"]

# Longer spectra are left to whoever asks for them.
_KEPT = 500


def kink_evidence(kinks: KinkMargin) -> dict[str, Any]:
    """Return where the nearest kinks are.

    Args:
        kinks: of the network on the data.

    Returns:
        Layers and margins by name.
    """
    unlisted = {"operations_not_known_to_be_smooth": kinks.unlisted} if kinks.unlisted else {}
    return unlisted | {
        "kink_layer": kinks.layer,
        "curvature_kink_margin": kinks.curvature_margin,
        "curvature_kink_layer": kinks.curvature_layer,
    }


def spectrum_evidence(spectrum: Spectrum) -> dict[str, Any]:
    """Return the extreme eigenvalues with their error bound, and all of them where they are few.

    Args:
        spectrum: of the Hessian.

    Returns:
        The numbers by name.
    """
    values = spectrum.eigenvalues
    return {
        "smallest_eigenvalue": float(values[0]),
        "largest_eigenvalue": float(values[-1]),
        "eigenvalue_error_bound": spectrum.uncertainty,
        "flatness": spectrum.flatness,
        "newton_step": float(spectrum.newton.norm()),
        "method": spectrum.inertia.method,
        "spectrum": tuple(values.tolist()) if len(values) <= _KEPT else None,
    }
