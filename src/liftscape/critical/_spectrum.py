"""What the Hessian says at a point that may be critical only to within ‖∇R‖: eigenvalues with their uncertainty."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._flatness import flatness_of_spectrum
from liftscape.critical._noise import hessian_rounding
from liftscape.critical._symmetry import symmetry_tangents
from liftscape.curvature import FlatManifold, Inertia, inertia_of_spectrum
from liftscape.operators import DenseOperator, SymmetricOperator
from liftscape.outcomes import LiftscapeError, NotFiniteError
from liftscape.risk import EmpiricalRisk

__all__ = ["Explained", "Spectrum", "explain_zeros", "spectrum_at"]

_ROUNDING = 10.0
_PARAMETRISATION_CURVATURE = 10.0
# The same direction found in two ways differs by the distance from criticality, and must not count twice.
_INDEPENDENT = 1e-4


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of ∇²R at θ, and how far those of the critical point next to θ may be from them.

    Attributes:
        eigenvalues: (M,), ascending.
        vectors: (M, M), as columns.
        uncertainty: by Weyl's inequality no eigenvalue at the critical point is further off than this.
        rounding: the part of it that is there at the critical point itself, too.
        flatness: Frye's r.
        newton: the least-squares Newton step, (M,), from θ to the critical point.
        hessian_rounding: what random rounding makes of ∇²R, in the Frobenius norm.
        inertia: the counts with the uncertainty as threshold.
    """

    eigenvalues: Float[Tensor, " M"]
    vectors: Float[Tensor, "M M"]
    uncertainty: float
    rounding: float
    flatness: float
    newton: Float[Tensor, " M"]
    inertia: Inertia
    hessian_rounding: float

    @property
    def hessian(self) -> SymmetricOperator:
        """∇²R as it was computed, symmetric."""
        return DenseOperator((self.vectors * self.eigenvalues) @ self.vectors.T)

    @property
    def resolved(self) -> tuple[Float[Tensor, " k"], Float[Tensor, "M k"]]:
        """The eigenvalues that are none of the zeros, with their vectors."""
        counted = self.eigenvalues.abs() > self.uncertainty
        return self.eigenvalues[counted], self.vectors[:, counted]

    def with_known_zeros(self, explained: int) -> "Spectrum":
        """Leave the inertia undecided where a zero that is not explained may be a small eigenvalue that is none."""
        # At the critical point zeros are zero to rounding; next to it, moved zeros look like small eigenvalues.
        inside = self.eigenvalues.abs() <= self.uncertainty
        moved = inside & (self.eigenvalues.abs() > _ROUNDING * self.rounding)
        if int(inside.sum()) <= explained or not bool(moved.any()):
            return self
        return replace(self, inertia=replace(self.inertia, margin=1.0))


@dataclass(frozen=True)
class Explained:
    """The part of the Hessian's kernel that is known to be flat.

    Attributes:
        dimension: of the span of all directions below.
        flat: number of directions of the known flat manifold, and how many of them the Hessian does not see.
        symmetries: number of tangents by symmetry.
    """

    dimension: int
    flat: tuple[int, int]
    symmetries: dict[str, int]


def spectrum_at(risk: EmpiricalRisk, gradient: Float[Tensor, " M"], near: bool = True) -> Spectrum:
    """Return the eigenvalues of ∇²R with their uncertainty.

    It is 10·M·eps·‖H‖ + 2·‖H − Hᵀ‖ + ρ + max(10·‖g‖, 2·‖H(θ + p) − H(θ)‖): ρ is what random rounding makes of H, which
    sees cancellation inside R; p is Newton's step, so the last term measures how far the eigenvalues move on the way to
    the critical point, and is left out where the point is not near a critical one.
    """
    dense, asymmetry = _symmetric(risk, risk.flatten())
    eigenvalues, vectors = torch.linalg.eigh(dense)
    norm = float(eigenvalues.abs().max())
    length = float(gradient.norm())
    rounding = _ROUNDING * len(eigenvalues) * torch.finfo(dense.dtype).eps * norm + 2 * asymmetry
    measured = hessian_rounding(risk.hessian(), dense)
    rounding += measured
    components = vectors.T @ gradient
    seen = eigenvalues.abs() > rounding + _PARAMETRISATION_CURVATURE * length
    newton = -(vectors[:, seen] @ (components[seen] / eigenvalues[seen]))
    moved = _PARAMETRISATION_CURVATURE * length
    if near and float(newton.norm()) > 0:
        moved = max(moved, _moved_by_newton(risk, dense, newton))
    uncertainty = rounding + moved
    return Spectrum(
        eigenvalues,
        vectors,
        uncertainty,
        rounding,
        float(flatness_of_spectrum(eigenvalues[None], components[None])[0]),
        newton,
        inertia_of_spectrum(eigenvalues, uncertainty, method=f"dense eigendecomposition, {dense.dtype}"),
        measured,
    )


def _moved_by_newton(risk: EmpiricalRisk, dense: Float[Tensor, "M M"], newton: Float[Tensor, " M"]) -> float:
    """Return twice by how much ∇²R changes along Newton's step; infinite where R has none at its end."""
    try:
        there = _symmetric(risk, risk.flatten() + newton)[0]
    except NotFiniteError:
        return float("inf")
    return 2 * float(torch.linalg.matrix_norm(there - dense))


def _symmetric(risk: EmpiricalRisk, theta: Float[Tensor, " M"]) -> tuple[Float[Tensor, "M M"], float]:
    """Return the symmetric part of the dense Hessian, and the norm of the rest."""
    dense = risk.hessian(risk.unflatten(theta)).to_dense()
    return (dense + dense.T) / 2, float(torch.linalg.matrix_norm(dense - dense.T))


def explain_zeros(
    risk: EmpiricalRisk, spectrum: Spectrum, known_flat: "FlatManifold | Tensor | int | None"
) -> Explained:
    """Return how much of the kernel is explained by the known flat manifold and by symmetries.

    A direction v counts only if the Hessian does not see it: ‖Hv‖ ≤ uncertainty for the unit vectors of an orthonormal
    basis of the manifold's tangent space, and for the tangents of symmetries.
    """
    _check_known_flat(risk, known_flat)
    found = symmetry_tangents(risk)
    tangents = found.tangents.to(spectrum.vectors)
    kept = tangents[:, _unseen(spectrum, tangents)]
    counts = {name: found.names.count(name) for name in dict.fromkeys(found.names)}
    if isinstance(known_flat, int):
        return Explained(max(known_flat, _orthonormal(kept).shape[1]), (known_flat, known_flat), counts)
    if known_flat is None:
        return Explained(_orthonormal(kept).shape[1], (0, 0), counts)
    flat = _orthonormal(_directions(risk, known_flat).to(spectrum.vectors))
    unseen = flat[:, _unseen(spectrum, flat)]
    span = _orthonormal(torch.cat([unseen, kept], dim=1))
    return Explained(span.shape[1], (flat.shape[1], unseen.shape[1]), counts)


def _check_known_flat(risk: EmpiricalRisk, known_flat: object) -> None:
    """Raise unless it is a manifold, directions of finite numbers, or how many directions are flat."""
    whole = isinstance(known_flat, int) and not isinstance(known_flat, bool) and 0 <= known_flat <= risk.size
    finite = isinstance(known_flat, Tensor) and bool(torch.isfinite(known_flat).all())
    if known_flat is None or whole or finite or hasattr(known_flat, "tangent_basis"):
        return
    given = "directions that are not finite" if isinstance(known_flat, Tensor) else repr(known_flat)
    raise LiftscapeError(
        f"known_flat must be a manifold, directions as columns, or a number from 0 to {risk.size} of flat directions, "
        f"but {given} was given; pass the embedding's manifold."
    )


def _directions(risk: EmpiricalRisk, known_flat: FlatManifold | Tensor) -> Float[Tensor, "M d"]:
    """Return the directions, or raise if they are not those of this risk's parameters."""
    directions = known_flat if isinstance(known_flat, Tensor) else known_flat.tangent_basis()
    if directions.ndim != 2 or directions.shape[0] != risk.size:
        raise LiftscapeError(
            f"known_flat must hold directions as columns of shape ({risk.size}, d), one row a parameter of "
            f"{type(risk.model).__name__}, but shape {tuple(directions.shape)} was given; use its manifold."
        )
    return directions.detach()


def _unseen(spectrum: Spectrum, directions: Float[Tensor, "M d"]) -> Tensor:
    """Tell which directions the Hessian maps to zero within its uncertainty."""
    products = spectrum.eigenvalues[:, None] * (spectrum.vectors.T @ directions)
    return products.norm(dim=0) <= spectrum.uncertainty


def _orthonormal(directions: Float[Tensor, "M d"]) -> Float[Tensor, "M rank"]:
    """Return an orthonormal basis of the span of unit columns."""
    if not directions.shape[1]:
        return directions
    left, singular, _ = torch.linalg.svd(directions / directions.norm(dim=0).clamp_min(1e-300), full_matrices=False)
    return left[:, singular > _INDEPENDENT * singular[0]]
