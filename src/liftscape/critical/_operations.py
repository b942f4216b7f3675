"""Which operations of torch are smooth, and where the others are not."""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, unfold

__all__ = ["SMOOTH", "kinks_of_operation"]

# Each is C² in its floating-point operands wherever it is finite, or copies them.
_NAMES = """
    atan2 xlogy i0 special_entr _linalg_slogdet unsafe_split unsafe_split_with_sizes unsafe_chunk
    add sub rsub mul div neg square reciprocal rsqrt exp exp2 expm1 log log2 log10 log1p positive
    sin cos tan atan sinh cosh tanh asinh acosh atanh sinc sigmoid erf erfc erfinv special_erfcx lgamma
    digamma polygamma logit logaddexp logaddexp2 logsumexp _logsumexp softmax _softmax log_softmax _log_softmax
    _safe_softmax
    logcumsumexp special_i1 special_ndtr special_log_ndtr log_sigmoid_forward silu gelu mish glu
    addcmul addcdiv addmm addmv addbmm baddbmm addr bmm mm mv dot vdot matmul linear outer ger kron linalg_cross lerp
    bilinear _trilinear convolution _convolution convolution_overrideable conv_depthwise3d _slow_conv2d_forward
    mkldnn_convolution mkldnn_linear _mkldnn_rnn_layer mkldnn_rnn_layer _thnn_fused_lstm_cell _thnn_fused_gru_cell
    mean sum nansum prod cumsum cumprod var var_mean trace
    native_layer_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    _native_batch_norm_legit_functional _batch_norm_with_update _batch_norm_no_update native_group_norm _fused_rms_norm
    _weight_norm_interface embedding _embedding_bag _embedding_bag_forward_only
    index _unsafe_index index_select gather take scatter scatter_add index_add index_copy index_put _index_put_impl
    index_fill masked_fill masked_scatter masked_select where select_scatter slice_scatter diagonal_scatter
    view _unsafe_view reshape _reshape_alias expand permute transpose t squeeze unsqueeze slice select split
    split_with_sizes unbind narrow as_strided alias detach clone contiguous copy _to_copy lift_fresh lift
    cat stack repeat flip roll tril triu diagonal diag_embed diag unfold im2col col2im constant_pad_nd movedim
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    pixel_shuffle pixel_unshuffle channel_shuffle upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    upsample_bicubic2d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d
    mse_loss nll_loss_forward nll_loss2d_forward nll_loss nll_loss_nd binary_cross_entropy
    binary_cross_entropy_with_logits kl_div soft_margin_loss
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math scaled_dot_product_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _fft_r2c _fft_c2r _fft_c2c view_as_real view_as_complex real imag complex _conj _conj_physical resolve_conj conj
    linalg_inv_ex _linalg_solve_ex _linalg_det linalg_cholesky_ex linalg_qr linalg_solve_triangular linalg_matrix_exp
    cholesky_solve cholesky_inverse linalg_lu_factor_ex lu_unpack linalg_lu_solve nan_to_num
    bitwise_and bitwise_or bitwise_not bitwise_xor
    zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_empty_strided
    _assert_async _assert_scalar _local_scalar_dense zero fill
    dropout native_dropout alpha_dropout feature_dropout
    """
SMOOTH = frozenset(_NAMES.split())

# A tensor, the points at which the operation has a kink in it, and the order of the first derivative that jumps.
Kinks = tuple[Tensor, tuple[float, ...], int]


def kinks_of_operation(name: str, args: Any, kwargs: dict[str, Any]) -> list[Kinks] | None:
    """Return where an operation that is not smooth has its kinks.

    Args:
        name: of the kernel, such as ``"maximum"``.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Returns:
        Tensors with the values at which slopes (order 1) or curvatures (order 2) jump; None where that is not known.

    Example:
        >>> (found,) = kinks_of_operation("maximum", (torch.tensor([3.0]), torch.tensor([1.0])), {})
        >>> found
        (tensor([2.]), (0.0,), 1)
    """
    known = _KINKED.get(name)
    return None if known is None else known(*args, **kwargs)


def _itself(t: Tensor, *_: Any, **__: Any) -> list[Kinks]:
    """Kinks at 0."""
    return [(t.abs() if t.is_complex() else t, (0.0,), 1)]


def _power(base: Any, exponent: Any = 2.0, *_: Any) -> list[Kinks]:
    """A kink at 0 of a power that is no whole number."""
    if not isinstance(base, Tensor) or (isinstance(exponent, (int, float)) and float(exponent).is_integer()):
        return []
    return _itself(base)


def _deviation(t: Tensor, *rest: Any, **keywords: Any) -> list[Kinks]:
    """A kink where all entries are equal."""
    return [(torch.std(t, *rest, **keywords), (0.0,), 1)]


def _difference(a: Any, b: Any, *_: Any, **__: Any) -> list[Kinks]:
    """Kinks where two operands are equal."""
    return [(a - b, (0.0,), 1)]


def _clamp(t: Tensor, low: Any = None, high: Any = None, *_: Any, **keywords: Any) -> list[Kinks]:
    """Kinks at the bounds."""
    bounds = (keywords.get("min", low), keywords.get("max", high))
    return [(t - bound, (0.0,), 1) for bound in bounds if bound is not None]


def _clamp_max(t: Tensor, high: Any) -> list[Kinks]:
    """Kinks at the upper bound."""
    return _clamp(t, None, high)


def _between(t: Tensor, low: float = -1.0, high: float = 1.0, *_: Any) -> list[Kinks]:
    """Kinks at two numbers."""
    return [(t, (float(low), float(high)), 1)]


def _elu(t: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> list[Kinks]:
    """A jump of the slope, or of the curvature alone."""
    return [(t, (0.0,), 2 if alpha * input_scale == 1 else 1)]


def _leading(t: Tensor, dim: Any = None, *_: Any, **__: Any) -> list[Kinks] | None:
    """Kinks where the two largest entries are equal."""
    dims = tuple(range(t.ndim)) if dim is None or dim == [] else (dim if isinstance(dim, (list, tuple)) else (dim,))
    dims = tuple(each % t.ndim for each in dims) if t.ndim else ()
    kept = [each for each in range(t.ndim) if each not in dims]
    rows = t.permute(*kept, *dims).reshape(*(t.shape[each] for each in kept), -1) if t.ndim else t.reshape(1)
    if rows.shape[-1] < 2:
        return []
    top = rows.topk(2, dim=-1).values
    return [(top[..., 0] - top[..., 1], (0.0,), 1)]


def _lowest(t: Tensor, *rest: Any, **keywords: Any) -> list[Kinks] | None:
    """Kinks where the two smallest entries are equal."""
    return _leading(-t, *rest, **keywords)


def _pooled(
    t: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> list[Kinks] | None:
    """Kinks where the two largest entries of a window are equal."""
    if ceil_mode or t.ndim not in {3, 4}:
        return None
    kernel, padding, dilation = (_pair(each) for each in (kernel, padding, dilation))
    stride = _pair(stride) if stride else kernel
    t = t if t.ndim == 4 else t[None]
    padded = pad(t, (padding[1], padding[1], padding[0], padding[0]), value=-inf)
    # Unfolding multiplies by ones, and −inf · 0 is no number.
    lowest = torch.finfo(t.dtype).min / 4
    windows = unfold(padded.clamp_min(lowest), kernel, dilation=dilation, stride=stride)
    windows = windows.reshape(t.shape[0], t.shape[1], kernel[0] * kernel[1], -1)
    return _leading(windows, 2)


def _pair(size: Any) -> tuple[int, int]:
    """Return a size in both directions."""
    if isinstance(size, int):
        return size, size
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])


def _norm(t: Tensor, order: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> list[Kinks] | None:
    """Kinks at 0: of the vector, or of every entry."""
    if order in {inf, -inf} or order < 1:
        return None
    if order < 2:
        return [(t, (0.0,), 1)]
    return [(torch.linalg.vector_norm(t, order, dim=dim), (0.0,), 1)]


def _huber(output: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> list[Kinks]:
    """Jumps of the curvature, or of the slope where the quadratic part has no width."""
    return [(output - target, (-delta, delta), 2) if delta > 0 else (output - target, (0.0,), 1)]


_KINKED: dict[str, Callable[..., "list[Kinks] | None"]] = {
    **dict.fromkeys(("abs", "sgn", "sign", "relu", "leaky_relu", "rrelu_with_noise", "_prelu_kernel"), _itself),
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne", "maximum", "minimum", "fmax", "fmin"), _difference),
    **dict.fromkeys(("clamp", "clamp_min"), _clamp),
    "sqrt": _itself,
    "pow": _power,
    **dict.fromkeys(("std", "std_mean"), _deviation),
    **dict.fromkeys(("acos", "asin"), _between),
    "clamp_max": _clamp_max,
    "hardtanh": _between,
    "hardswish": lambda t: _between(t, -3.0, 3.0),
    "hardsigmoid": lambda t: _between(t, -3.0, 3.0),
    "hardshrink": lambda t, width=0.5: _between(t, -width, width),
    "softshrink": lambda t, width=0.5: _between(t, -width, width),
    "threshold": lambda t, at, _: [(t, (float(at),), 1)],
    "softplus": lambda t, beta=1, threshold=20: [(t * beta, (float(threshold),), 1)] if threshold < 16 else [],
    "elu": _elu,
    "celu": lambda t, alpha=1.0: [(t, (0.0,), 2)],
    **dict.fromkeys(("amax", "max", "argmax"), _leading),
    **dict.fromkeys(("amin", "min", "argmin"), _lowest),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool2d"), _pooled),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _norm),
    **dict.fromkeys(("huber_loss", "smooth_l1_loss"), _huber),
}
