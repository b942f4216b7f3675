"""When there is nothing to escape from, nowhere to insert a layer, or nothing that a layer could tell apart."""

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature import plateau_reading
from liftscape.escaping._affine_rows import stream_gradients
from liftscape.outcomes import NotFiniteError, NotStuckError, SiteError
from liftscape.risk import EmpiricalRisk
from liftscape.sites import AFFINE, Site, find_sites, require_site

__all__ = ["choose_sites", "refuse_zero_residual", "require_stuck", "separable_share"]

# A residual of so many roundings of the map's outputs counts as zero.
_ROUNDINGS = 1e3
_SAME = 1e-9


def require_stuck(risk: EmpiricalRisk, tolerance: float) -> None:
    """Raise if one gradient step lowers the risk by a share of it that is not negligible.

    Args:
        risk: the empirical risk.
        tolerance: the share; nothing is asked where it is infinite.

    Raises:
        NotStuckError: if it does; it says by how much.
        NotFiniteError: if R, its gradient or its Hessian is not finite.
    """
    if tolerance == inf:
        return
    reading = plateau_reading(risk, steps=1, lowest=(0.0, 0.0))
    step = reading.gradient_step
    if not torch.isfinite(torch.tensor([reading.value, reading.gradient_norm])).all():
        raise NotFiniteError(f"R = {reading.value} and ‖∇R‖ = {reading.gradient_norm} are not finite; go back a step.")
    if reading.state == "not finite":
        raise NotFiniteError(reading.reading)
    if step.decrease > tolerance * abs(reading.value):
        raise NotStuckError(
            f"the network is not stuck: one gradient step of length {step.length:.3g} lowers R from "
            f"{reading.value:.6g} to {reading.value - step.decrease:.6g}, by {step.decrease / abs(reading.value):.2g} "
            f"of it, where at most {tolerance:g} is allowed; train on first, or raise tolerance."
        )


def choose_sites(risk: EmpiricalRisk, at: str | Sequence[str] | None) -> list[Site]:
    """Return the named maps, or all in front of which a layer can be inserted.

    Args:
        risk: the empirical risk.
        at: names of maps.

    Returns:
        The sites.

    Raises:
        SiteError: if one named is none, or there is none at all; it says why.
    """
    model, inputs = risk.model, risk.batches
    if at is not None:
        named = [require_site(model, name, inputs, AFFINE) for name in ([at] if isinstance(at, str) else at)]
        for site in named:
            if (reason := _refusal(model, site)) is not None:
                raise SiteError(f"no layer can be inserted at '{site.name}': {reason}")
        return named
    sites = find_sites(model, inputs)
    found = [site for site in sites if _refusal(model, site) is None]
    if not found:
        reasons = "; ".join(f"'{site.name}': {_refusal(model, site)}".rstrip(".") for site in sites)
        raise SiteError(
            f"{type(model).__name__} has no map in front of which a layer can be inserted; {reasons or 'it has none'}."
        )
    return found


def refuse_zero_residual(risk: EmpiricalRisk, sites: Sequence[Site]) -> None:
    """Raise if ∂R/∂z vanishes for every sample at every site.

    Args:
        risk: the empirical risk.
        sites: the maps.

    Raises:
        NotStuckError: if it does.
    """
    largest = {site.name: [0.0, 0.0, 0.0] for site in sites}

    def receive(name: str, _h: Tensor, z: Tensor, g: Tensor) -> None:
        own = largest[name]
        own[0], own[1] = max(own[0], float(g.abs().max())), max(own[1], float(z.abs().max()))
        own[2] += len(g)

    stream_gradients(risk, list(largest), receive)
    bound = _ROUNDINGS * torch.finfo(risk.flatten().dtype).eps
    if all(g * rows <= bound * max(z, 1.0) for g, z, rows in largest.values()):
        raise NotStuckError(
            f"the residual is zero: with R = {float(risk.value()):.3g} no sample pulls at the outputs of "
            f"{', '.join(repr(name) for name in largest)}, so that no layer can lower R; there is nothing to escape "
            "from."
        )


def separable_share(h: Float[Tensor, "n m"], g: Float[Tensor, "n D"]) -> float:
    """Return max ‖Σg‖ over groups of samples that share their h, over max Σ‖g‖: 0 if no half-space has V ≠ 0.

    Source: derived (theory 7).

    Args:
        h: features.
        g: ∂R/∂z.

    Returns:
        A share between 0 and 1.

    Example:
        >>> h, g = torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([[3.0], [-3.0], [0.0]])
        >>> separable_share(h, g)
        0.0
    """
    scale = h.abs().amax(dim=0).clamp_min(torch.finfo(h.dtype).tiny)
    # Equal inputs may leave a product with other last digits in other rows of a batch.
    _, group = torch.unique((h / scale / _SAME).round(), dim=0, return_inverse=True)
    count = int(group.max()) + 1
    sums = torch.zeros(count, g.shape[1], dtype=g.dtype, device=g.device).index_add_(0, group, g)
    sizes = torch.zeros(count, dtype=g.dtype, device=g.device).index_add_(0, group, g.norm(dim=1))
    return float(sums.norm(dim=1).max() / sizes.max().clamp_min(torch.finfo(g.dtype).tiny))


def _refusal(model: Any, site: Site) -> str | None:
    """Say why no layer can leave the manifold here, if none can."""
    if site.refusal is not None:
        return site.refusal
    if not site.bias:
        return "it has no bias, which must take up the constants of an inserted layer; give it one."
    if getattr(model.get_submodule(site.name), "groups", 1) > 1:
        return "it is a convolution in groups; choose one without groups."
    return None
