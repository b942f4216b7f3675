"""Whether the mean over batches is the loss on all samples, as it is not for sums, weights and pairs of samples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from liftscape.derivatives import moved, slice_batch
from liftscape.functional import MODEL_ERRORS, call_model, map_tensors, trainable_parameters
from liftscape.outcomes import LiftscapeError, ModelError
from liftscape.samples import Batches, Loss, NormalisedLoss, Part, batch_size, join_parts, loss_name, normaliser_of

__all__ = ["loss_over_batches"]

# By this share the losses of the same samples may differ when they are summed in another order, cancellation inside of
# them included, in double precision and in shorter ones; and by this multiple of what rounding of the outputs and of
# another order of the samples do to them, where that is not so much that the loss depends on the order.
_ROUNDING, _MOST, _NUDGES, _ORDER = 1e-9, 1e-4, 100.0, 1e-4
# Of sums of weights, in double precision.
_SAME_DENSITY = 1e-6
# Means over the entries of outputs and targets of one shape.
_MEANS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_MEAN_FUNCTIONS = (functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss)


def loss_over_batches(loss: Loss, model: nn.Module, batches: Batches) -> Loss:
    """Return a loss ℓ with Σ_b (n_b / n) ℓ_b = ℓ on all samples together, or raise where no such loss exists.

    The outputs of one half of the first batch are joined with those of each other batch, in one pass over the data
    without a gradient: (n_a + n_b) ℓ(a ∪ b) = n_a ℓ(a) + n_b ℓ(b) must hold up to rounding. Where it fails because
    torch's mean cross entropy divides by weights of its batch, they are those of all data in what is returned. Outputs
    are those next to θ, since at a perfect fit every loss vanishes.

    Source: derived.

    Args:
        loss: of (output, target).
        model: the module.
        batches: the data.

    Returns:
        The loss itself, or a :class:`NormalisedLoss`.

    Raises:
        ModelError: if the mean over batches is not the loss on all samples.
        LiftscapeError: if the model or the loss refuses a batch.
    """
    if batches.count == 1 or loss_name(loss) is not None or loss in _MEAN_FUNCTIONS:
        return loss
    if isinstance(loss, _MEANS) and loss.reduction == "mean":
        return loss
    generator = torch.Generator().manual_seed(0)
    params = {name: moved(tensor, generator) for name, tensor in trainable_parameters(model).items()}
    seen = _Seen()
    with torch.no_grad():
        anchors: list[Part] = []
        for batch in batches:
            anchors = anchors or _anchors(model, params, batch)
            try:
                part = call_model(model, params, batch[0]), batch[1]
                seen = seen.with_batch(loss, part, batch_size(batch[0]), anchors)
            except LiftscapeError:
                raise
            except MODEL_ERRORS:
                continue  # raised again, and explained, where the loss is asked for
    if not seen.deviates:
        return loss
    if seen.normalised and isfinite(seen.weight) and seen.weight > 0:
        return NormalisedLoss(loss, seen.weight / seen.samples)
    raise ModelError(
        f"the loss of samples together is not the mean of their losses in {batches.count} batches "
        f"({seen.whole:.6g} and {seen.mean:.6g} for one part of the data), as where it sums instead of dividing by the "
        "number of samples, divides by weights of a batch, or compares samples; give all samples as one batch, or a "
        "loss that is a mean over samples."
    )


@final
@dataclass(frozen=True)
class _Seen:
    """What a pass over the batches has shown.

    Attributes:
        samples: how many.
        weight: Σ_i w_i of the mean cross entropy in the loss, NaN where there is not one alone.
        density: w per sample of the first batch.
        deviates: whether the mean over batches is not the loss on all.
        normalised: whether that of the normalised loss is.
        whole: the loss on two parts together where it deviates.
        mean: that of the parts.
    """

    samples: int = 0
    weight: float = 0.0
    density: float = nan
    deviates: bool = False
    normalised: bool = True
    whole: float = nan
    mean: float = nan

    def with_batch(self, loss: Loss, part: Part, size: int, anchors: Iterable[Part]) -> "_Seen":
        """Return what is known after one batch more."""
        weight = normaliser_of(loss, *part)[1]
        density = weight / size if self.samples == 0 else self.density
        found = _compare(loss, part, anchors)
        other = _compare(NormalisedLoss(loss, 1.0), part, anchors) if isfinite(weight) else None
        # Batches of other lengths cannot be joined, but what they are divided by shows that they are no mean.
        unlike = found is None and abs(weight / size - density) > _SAME_DENSITY * abs(density)
        deviates = unlike or (found is not None and not found.agrees)
        shown = found if deviates and found is not None and not isfinite(self.whole) else self
        return _Seen(
            self.samples + size,
            self.weight + weight,
            density,
            self.deviates or deviates,
            self.normalised and (other is None or other.agrees),
            shown.whole,
            shown.mean,
        )


@final
@dataclass(frozen=True)
class _Comparison:
    """The loss on two parts of the data together, and the mean of theirs."""

    agrees: bool
    whole: float
    mean: float


def _anchors(model: nn.Module, params: Mapping[str, Tensor], batch: Part) -> list[Part]:
    """Return outputs and targets of parts of a batch, two of different sizes where the model takes them."""
    half = max(1, batch_size(batch[0]) // 2)
    parts: list[Part] = []
    for size in sorted({half, max(1, half - 1), min(batch_size(batch[0]), half + 1)}, reverse=True):
        inputs, targets = slice_batch(batch, 0, size)
        try:
            parts.append((call_model(model, params, inputs), targets))
        except MODEL_ERRORS:
            continue  # a model that insists on the size of its batch
    return parts or [(call_model(model, params, batch[0]), batch[1])]


def _compare(loss: Loss, part: Part, anchors: Iterable[Part]) -> _Comparison | None:
    """Compare the loss on two parts together with the mean of theirs, None where they cannot be joined."""
    size = len(part[1])
    # Where sizes differ the axis of samples shows.
    for anchor in sorted(anchors, key=lambda other: len(other[1]) == size):
        joined = join_parts(anchor, part)
        if joined is None:
            continue
        share = len(anchor[1]) / (len(anchor[1]) + size)
        parts = (joined, anchor, part)
        try:
            taken = [_value(loss, each) for each in parts]
            values = [value for value, _ in taken]
            whole, mean = values[0], share * values[1] + (1 - share) * values[2]
            allowed = max(rounding for _, rounding in taken) * max(map(abs, values))
            if isfinite(whole + mean) and abs(whole - mean) > allowed:
                allowed += _NUDGES * max(map(partial(_noise, loss), parts, values))
        except MODEL_ERRORS:
            continue
        if isfinite(whole + mean + allowed):
            return _Comparison(abs(whole - mean) <= allowed, whole, mean)
    return None


def _value(loss: Loss, part: Part) -> tuple[float, float]:
    """Return the loss, in double precision where it allows that, and the share of it that rounding may change."""
    for dtype in (torch.float64, torch.float32):
        try:
            value = loss(map_tensors(partial(_widened, dtype=dtype), part[0]), _widened(part[1], dtype))
        except MODEL_ERRORS:
            continue  # a loss that holds weights in another precision
        return float(value), _rounding_of(value)
    value = loss(*part)
    return float(value), _rounding_of(value)


def _rounding_of(value: Tensor) -> float:
    """Return the share of a loss that rounding may change, in the precision in which it was taken."""
    return max(_ROUNDING if value.dtype is torch.float64 else _MOST, 4 * torch.finfo(value.dtype).eps)


def _widened(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers in at least a precision, and others as they are."""
    narrow = tensor.is_floating_point() and tensor.element_size() < dtype.itemsize
    return tensor.to(dtype) if narrow and not (tensor.device.type == "mps" and dtype is torch.float64) else tensor


def _noise(loss: Loss, part: Part, value: float) -> float:
    """Return what rounding of the outputs, and another order of the samples, do to a loss."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(part[1]), generator=generator).to(part[1].device)

    def nudge(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        signs = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).sign().to(tensor)
        return tensor * (1 + signs * torch.finfo(tensor.dtype).eps)

    reorder = lambda tensor: tensor[order] if tensor.ndim and len(tensor) == len(order) else tensor
    nudged = abs(_value(loss, (map_tensors(nudge, part[0]), part[1]))[0] - value)
    reordered = abs(_value(loss, (map_tensors(reorder, part[0]), reorder(part[1])))[0] - value)
    return max(nudged, reordered if reordered <= _ORDER * abs(value) else 0.0)
