"""R of several networks in one reading of the data."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.risk._risk import EmpiricalRisk
from liftscape.samples import batch_size

__all__ = ["values_of"]


def values_of(risk: EmpiricalRisk, models: Sequence[nn.Module]) -> list[Float[Tensor, ""]]:
    """Return R of several networks at their parameters, in one reading of the data.

    They are trusted to be deterministic functions, as networks are that were made of the risk's model.

    Args:
        risk: the empirical risk, whose loss and data are used.
        models: the networks.

    Returns:
        A scalar each, in the parameters' dtype.
    """
    risks = [risk.derived(model) for model in models]
    params = [each.parameters for each in risks]
    terms: list[list[Tensor]] = [[] for _ in risks]
    with torch.no_grad():
        for batch in risk.batches:
            weight = batch_size(batch[0]) / risk.batches.samples
            for each, theta, found in zip(risks, params, terms, strict=True):
                found.append((each.batch_value(theta, batch) * weight).detach())
    return [torch.stack(found).sum() for found in terms]
