"""Maps of which a forward pass reads more than what they compute, so that nothing else can take their place."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from liftscape.forward._replace import copy_with
from liftscape.functional import MODEL_ERRORS, call_model, copy_model, few_samples, trainable_parameters, untouched

__all__ = ["attributes_read"]


def attributes_read(model: nn.Module, names: Sequence[str], batch: Any) -> dict[str, str]:
    """Find the modules of which a forward pass reads an attribute, as ``self.fc.weight.dtype``.

    In a Sequential of its own a module computes what it did, but has no other attribute.

    Args:
        model: any module; it is left as it was.
        names: of modules in it.
        batch: inputs of one batch; a few samples are used where the model takes few.

    Returns:
        The attribute that is missed first, by the module's name.

    Example:
        >>> class Cast(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.map = nn.Linear(2, 2)
        ...     def forward(self, x):
        ...         return self.map(x.to(self.map.weight.dtype))
        >>> attributes_read(Cast(), ["map"], torch.ones(3, 2))
        {'map': 'weight'}
    """
    if not names or _missed(model, names, batch) is None:
        return {}
    missed = {name: _missed(model, [name], batch) for name in names}
    return {name: attribute for name, attribute in missed.items() if attribute is not None}


def _missed(model: nn.Module, names: Sequence[str], batch: Any) -> str | None:
    """Return the attribute that a call misses where these modules stand in a Sequential each."""
    # The whole batch is taken where the model refuses few samples; what cannot be copied cannot be lifted either.
    for samples in (few_samples(batch), batch):
        try:
            alone = {name: nn.Sequential(copy_model(model.get_submodule(name), share=True)) for name in names}
            shut = copy_with(model, dict(alone), share=True)
            with untouched(shut), torch.no_grad():
                call_model(shut, trainable_parameters(shut), samples)
        except MODEL_ERRORS as error:
            found = re.search(r"'Sequential' object has no attribute '(\w+)'", str(error))
            if found:
                return found[1]
        else:
            return None
    return None
