"""Parameters at which candidates of a symmetry are tested, and when a product of gradient and field is zero there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from liftscape.critical._field import Field
from liftscape.forward import Each, Inputs, Observation, stream
from liftscape.risk import EmpiricalRisk

__all__ = ["Draw", "Product", "drawn", "input_variances", "vanishes"]

# ∇R(θ)·v(θ) is a sum of products that counts as zero up to a hundred roundings of the products and of ∇R in them.
_ROUNDING = 1e2
_DRAWS = 3
# Saturated functions have symmetries far from θ that they have not at it, so θ′ is drawn at these distances, too.
_NEAR = (1.0, 1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)


@dataclass(frozen=True)
class Draw:
    """Parameters θ′, ∇R(θ′), what rounding does to it, and the variances that each training BatchNorm finds there."""

    params: Mapping[str, Tensor]
    gradient: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]


@dataclass(frozen=True)
class Product:
    """Entries of ∇R(θ′)·v(θ′), and the sums of what they are made of in absolute value, without and with rounding."""

    value: Tensor
    size: Tensor
    noise: Tensor


def drawn(risk: EmpiricalRisk, field: Field, generator: torch.Generator) -> list[Draw]:
    """Evaluate what candidates are tested with, far from θ and near it.

    Args:
        risk: the empirical risk.
        field: R and ∇R around θ.
        generator: source of θ′, on the CPU.

    Returns:
        The draws; empty where R has no finite gradient, or none at all.
    """
    here = risk.parameters
    places = [risk.flatten(_redrawn(here, generator)) for _ in range(_DRAWS)]
    for distance in _NEAR:
        move = torch.randn(field.theta.shape, generator=generator, dtype=torch.float64).to(field.theta)
        places.append(field.theta + distance * move)
    thetas = torch.stack(places)
    gradients, noise = field.gradients(thetas), field.gradient_noise(thetas)
    if not bool(torch.isfinite(gradients).all()) or not bool((gradients[:_DRAWS] != 0).any(dim=1).all()):
        return []
    draws = []
    for theta, gradient, rounding in zip(thetas, gradients, noise, strict=True):
        params = risk.unflatten(theta)
        draws.append(Draw(params, risk.unflatten(gradient), risk.unflatten(rounding), input_variances(risk, params)))
    return draws


def _redrawn(params: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw parameters anew, at the scale of an initialisation."""
    return {
        name: (
            torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            / (tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 2.0)
        ).to(tensor)
        for name, tensor in params.items()
    }


def input_variances(risk: EmpiricalRisk, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the biased variances of what each BatchNorm in training mode reads.

    Args:
        risk: the empirical risk.
        params: θ by name.

    Returns:
        Variances by the BatchNorm's name.
    """
    norms = [
        name for name, module in risk.model.named_modules() if isinstance(module, nn.BatchNorm1d) and module.training
    ]
    variances: dict[str, Tensor] = {}
    if norms:

        def receive(seen: Observation) -> None:
            rows = seen.tensor.reshape(-1, seen.tensor.shape[-1])
            variances[seen.name] = rows.var(dim=0, unbiased=False)

        stream(risk.at(params).model, risk.batches, [Each(Inputs(norms), receive)])
    return variances


def vanishes(products: list[Product]) -> Bool[Tensor, "..."]:
    """Tell which products ∇R(θ′)·v(θ′) are zero to rounding at all draws.

    Args:
        products: at each draw.

    Returns:
        Booleans of the products' shape.
    """
    eps = torch.finfo(products[0].value.dtype).eps
    bounds = [_ROUNDING * (eps * product.size + product.noise) for product in products]
    return torch.stack([p.value.abs() <= bound for p, bound in zip(products, bounds, strict=True)]).all(dim=0)
