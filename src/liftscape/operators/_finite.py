"""Products that are not finite are refused, with what is known of where they come from."""

import re
import warnings
from collections.abc import Callable, Mapping
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.outcomes import NotFiniteError

__all__ = ["all_finite", "first_not_a_number", "require_finite_product"]

# Names of parameters in a sentence.
_NAMED = 3


def all_finite(tensor: Tensor) -> bool:
    """Tell whether every entry is finite.

    Source: none.

    Args:
        tensor: of any shape.

    Returns:
        Whether it is.

    Example:
        >>> all_finite(torch.ones(2)), all_finite(torch.tensor([1.0, torch.inf, -torch.inf]))
        (True, False)
    """
    # A finite sum needs no second look at each entry; one that overflows does.
    return isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def require_finite_product(
    rows: Float[Tensor, "k M"],
    leaves: Mapping[str, Tensor] | None = None,
    explain: Callable[[int], str] | None = None,
) -> None:
    """Raise unless every entry of the products is finite.

    Source: none.

    Args:
        rows: k products.
        leaves: parameters whose entries make up a product, by name, where they are known.
        explain: returns for the index of a product what made it so, as a clause; empty where nothing is known.

    Raises:
        NotFiniteError: if one is not; it names the parameters and the function where it can.

    Example:
        >>> require_finite_product(torch.ones(1, 2))
    """
    if all_finite(rows):
        return
    bad = ~torch.isfinite(rows)
    where, why = "", ""
    if leaves is not None:
        parts = bad.split([leaf.numel() for leaf in leaves.values()], dim=-1)
        names = [f"'{name}'" for name, part in zip(leaves, parts, strict=True) if bool(part.any())]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        where = f" in {', '.join(names[:_NAMED])}{more}"
    if explain is not None:
        why = explain(int(bad.any(dim=1).nonzero()[0]))
    size = rows.shape[1]
    raise NotFiniteError(
        f"a product with the operator of shape ({size}, {size}) is not finite{where}{why}, so it has no spectrum here; "
        "look for parameters at which the loss overflows or has no second derivative."
    )


def first_not_a_number(work: Callable[[], object]) -> str:
    """Return which function of torch's first made NaN in the backward passes of some work, as a clause.

    Source: none.

    Args:
        work: takes the backward passes.

    Returns:
        A clause; empty where none did.

    Example:
        >>> x = torch.zeros(1, requires_grad=True)
        >>> first_not_a_number(lambda: (x.sqrt() * 0).sum().backward())
        ', first from SqrtBackward0'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.autograd.detect_anomaly():
                work()
        except RuntimeError as error:
            found = re.search(r"Function '(\w+)' returned nan", str(error))
            return f", first from {found[1]}" if found else ""
    return ""
