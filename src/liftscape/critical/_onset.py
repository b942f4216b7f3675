"""Where a quantity that vanishes at a point stands out of rounding along a ray, and to which order it grows there."""

from dataclasses import dataclass
from math import inf, log

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Onset", "onset"]

# A component counts from ten times what rounding can make of it.
_VISIBLE = 10.0
# A power law that is seen at one step but not at the one below, where it would be three times as large as what is seen.
_SUDDEN = 3.0


@dataclass(frozen=True)
class Onset:
    """The first steps at which a quantity is seen.

    Attributes:
        step: the smallest of two neighbouring steps at which it is seen; the longest one if it is seen there alone.
        exponent: e of the power law h^e between the two; inf if there is one only.
        sudden: whether that law would have been seen at the step below, too, so that it begins at a distance.
        component: of the quantity, the one that stands out most.
        sustained: the larger of e and the exponent between the next two steps, since terms that cancel at one step do
            not cancel at the next.
    """

    step: float
    exponent: float
    sudden: bool
    component: int
    sustained: float = inf


def onset(steps: Float[Tensor, " L"], values: Float[Tensor, "L M"], noise: Float[Tensor, "L M"]) -> Onset | None:
    """Return where the components of a quantity stand out of their rounding, from the smallest step upwards.

    Args:
        steps: h, ascending with a constant ratio, (L,).
        values: the quantity at each step, (L, M).
        noise: what rounding can make of each component there, (L, M).

    Returns:
        The onset; None where nothing is seen at two neighbouring steps.

    Example:
        >>> h = 4.0 ** torch.arange(-12, 0, dtype=torch.float64)
        >>> found = onset(h, h[:, None] ** 2, torch.full((12, 1), 1e-10, dtype=torch.float64))
        >>> found.exponent, found.sudden
        (2.0, False)
    """
    threshold = _VISIBLE * noise
    ratio = torch.where(values == 0, 0.0, values.abs() / threshold)
    finite = torch.isfinite(values).all(dim=1)
    seen = (ratio.amax(dim=1) > 1) & finite
    if bool(seen[-1]) and not bool(seen[:-1].any()):
        return Onset(float(steps[-1]), inf, True, int(ratio[-1].argmax()))
    for index in range(len(steps) - 1):
        if not bool(seen[index] & seen[index + 1]):
            continue
        component = int(ratio[index].argmax())
        here, above = float(values[index, component].abs()), float(values[index + 1, component].abs())
        growth = float(steps[index + 1] / steps[index])
        exponent = log(max(above, 1e-300) / here) / log(growth)
        below = here * growth**-exponent
        sudden = index > 0 and below > _SUDDEN * float(threshold[index - 1, component])
        sustained = exponent
        if index + 2 < len(steps) and bool(finite[index + 2]):
            beyond = float(values[index + 2, component].abs())
            sustained = max(exponent, log(max(beyond, 1e-300) / max(above, 1e-300)) / log(growth))
        return Onset(float(steps[index]), exponent, sudden, component, sustained)
    return None
