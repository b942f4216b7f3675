"""What rounding does to a computation, measured by moving the result of every operation by a rounding error."""

from functools import cache, lru_cache
from math import inf
from random import Random
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["RandomRounding"]

# Small whole numbers that are only copied are exact: counts, masks, one-hot rows and what is read as an index.
_WHOLE = 2.0**20
_COPIES = frozenset({
    "_to_copy",
    "clone",
    "cat",
    "stack",
    "index",
    "index_select",
    "gather",
    "where",
    "masked_fill",
    "arange",
    "eye",
    "scatter",
    "constant_pad_nd",
    "repeat",
    "full",
    "ones",
    "zeros",
    "full_like",
    "ones_like",
    "zeros_like",
    "scalar_tensor",
    "floor",
    "ceil",
    "round",
    "trunc",
    "embedding",
    "tril",
    "triu",
    "flip",
    "roll",
})
# One of several numbers as it is: exact, and backward passes find it again by comparing.
_SELECTED = frozenset({
    "median",
    "nanmedian",
    "kthvalue",
    "sort",
    "topk",
    "mode",
    "max",
    "min",
    "amax",
    "amin",
    "aminmax",
    "cummax",
    "cummin",
    "_cummax_helper",
    "_cummin_helper",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "abs",
})
_VECTOR_NORM = torch.ops.aten.linalg_vector_norm.default
_POOL = 2**16 + 1


@final
class RandomRounding(TorchDispatchMode):
    """While the context lasts, every floating-point result t of torch becomes t(1 + ξ·eps), ξ uniform in (−1, 1).

    Two computations of the same number then differ by about what rounding does to it, cancellation inside included,
    which neither the size of the result nor a move of the inputs tells. Forward and backward passes are both seen, at
    the level of the kernels; sums inside one kernel are exact up to their last rounding.

    Source: Parker 1997 (UCLA CSD-970002), Monte Carlo arithmetic.

    Args:
        seed: of ξ; the same seed gives the same results.

    Example:
        >>> x = torch.tensor([1e8, 1.0, -1e8], dtype=torch.float64) / 3
        >>> with RandomRounding(0):
        ...     rounded = (x[0] + x[1]) + x[2]
        >>> 1e-10 < float((rounded - 1 / 3).abs()) < 1e-7
        True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        # Drawn once and read from changing places, since to draw for every result takes longer than the results.
        self._pool = _pool(seed)
        # Python's own generator, since a single number from torch's takes nine times as long.
        self._places = Random(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        exact, copied = _nature(func)
        if exact or (func is _VECTOR_NORM and len(args) > 1 and args[1] in {inf, -inf}):
            return result
        if isinstance(result, Tensor):
            return self._moved(result, copied)
        return tree_map_only(Tensor, lambda each: self._moved(each, copied), result)

    def _moved(self, result: Tensor, copied: bool) -> Tensor:
        """Return a floating-point tensor with its entries moved: small whole numbers away from zero, or not at all."""
        if (
            not result.is_floating_point()
            or result.layout != torch.strided
            or result.is_meta
            or result._is_zerotensor()
        ):
            return result
        # In double precision, since 1 + ξ·eps itself would be rounded to 1 or 1 ± eps.
        wide = torch.float32 if result.device.type == "mps" else torch.float64
        entries, draws = result.to(wide), self._draws(result.numel()).to(result.device, wide).view(result.shape)
        eps = torch.finfo(result.dtype).eps
        even = result.trunc() == result
        # Most results have no whole entries, infinity included; what is not a number stays one when it is moved.
        if not bool(even.any()):
            return torch.addcmul(entries, entries, draws, value=eps).to(result.dtype)
        whole = even & (result.abs() <= _WHOLE)
        # What is read as an index afterwards is cut to the same whole number.
        moved = torch.addcmul(entries, entries, torch.where(whole, draws.abs(), draws), value=eps).to(result.dtype)
        kept = ~torch.isfinite(result) | whole if copied else ~torch.isfinite(result)
        return torch.where(kept, result, moved)

    def _draws(self, count: int) -> Tensor:
        """Return numbers from (−1, 1)."""
        start = self._places.randrange(_POOL)
        repeats = -(-(start + count) // _POOL)
        return (self._pool if repeats == 1 else self._pool.repeat(repeats))[start : start + count]


@lru_cache(maxsize=16)
def _pool(seed: int) -> Tensor:
    """Return numbers from (−1, 1) that belong to a seed."""
    return 2 * torch.rand(_POOL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


@cache
def _nature(func: Any) -> tuple[bool, bool]:
    """Tell whether a kernel's results are numbers that were there already, and whether it copies what may be moved."""
    name = func.overloadpacket.__name__
    # Views and results written into an operand are other names of numbers that were moved already.
    renamed = any(entry.alias_info is not None for entry in func._schema.returns)
    return renamed or name in _SELECTED, name in _COPIES
