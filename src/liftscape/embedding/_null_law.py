"""The gradient of a null neuron's out-weights: its constant times that of the readers' biases."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from liftscape._intercept import Intercept
from liftscape.embedding._preserved import Beside
from liftscape.embedding._width_chart import WidenedLayer
from liftscape.functional import call_model, trainable_parameters
from liftscape.outcomes import SiteError
from liftscape.sites import drawing_alike

__all__ = ["beside_null_neurons"]

# Ulps by which a constant may vary from sample to sample, as behind a BatchNorm that divides rounding by √ε.
_ULPS = 1e5


def beside_null_neurons(wider: nn.Module, widened: Mapping[str, WidenedLayer]) -> Beside:
    """Return what g′ has beside Jᵀg where there are null neurons: ∂R/∂a_ij = σ_j ∂R/∂d_i, σ_j what reaches the reader.

    Of a convolution each entry of the kernel sees the same constant; behind zero padding it does not, which the
    comparison with the true gradient tells.

    Args:
        wider: the larger network.
        widened: its layers.

    Returns:
        The law, which raises a SiteError where a null neuron is not constant on the samples.
    """
    nulls = {
        reader: ([j for j, source in enumerate(own.neurons.index) if source is None], len(own.neurons.index))
        for own in widened.values()
        if None in own.neurons.index
        for reader in own.readers
    }

    def law(samples: Any, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        added: dict[str, Tensor] = {}
        for reader, constants in _constants(wider, {name: own[1] for name, own in nulls.items()}, samples).items():
            neurons, width = nulls[reader]
            weight, bias = gradient[f"{reader}.weight"], gradient[f"{reader}.bias"]
            blocks = torch.zeros_like(weight).reshape(len(weight), width, -1)
            for j in neurons:
                low, high = (end[j].to(weight) for end in constants)
                if bool((high - low > _ULPS * torch.finfo(weight.dtype).eps * high.abs()).any()):
                    raise SiteError(
                        f"a null neuron is critical only where its constant reaches the reader, but at '{reader}' it "
                        "differs from place to place or call to call; use split, or choose another layer."
                    )
                blocks[:, j] = bias[:, None] * (low + high) / 2
            added[f"{reader}.weight"] = blocks.reshape(weight.shape)
        return added

    return law


def _constants(model: nn.Module, widths: Mapping[str, int], samples: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the smallest and largest value, (neurons, places), that reach each reader, a module or a call."""
    params = trainable_parameters(model)
    extremes = _Extremes({id(params[f"{name}.weight"]): name for name in widths}, widths)
    # With gradients the forward pass is given these very tensors.
    with torch.enable_grad(), drawing_alike(model), Intercept(extremes.call):
        call_model(model, params, samples)
    missing = [name for name in widths if name not in extremes.found]
    if missing:
        raise SiteError(
            f"'{missing[0]}' is read by other means than as a map, so that the constant of a null neuron is not seen; "
            "use split, or choose another layer."
        )
    return extremes.found


@final
class _Extremes:
    """Notes the extremes of what the maps with certain weights read."""

    def __init__(self, names: Mapping[int, str], widths: Mapping[str, int]) -> None:
        self.names, self.widths = names, widths
        self.found: dict[str, tuple[Tensor, Tensor]] = {}

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Look at the arguments of a map and call it."""
        if getattr(func, "__name__", "") in {"linear", "conv2d"}:
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            name = self.names.get(id(given.get("weight")))
            if name is not None:
                self._note(name, given["input"].detach(), func.__name__ == "linear")
        return func(*args, **kwargs)

    def _note(self, name: str, h: Tensor, channels_last: bool) -> None:
        """Take in what one call reads."""
        width = self.widths[name]
        rows = h.reshape(-1, width, h.shape[-1] // width) if channels_last else h.movedim(-3, -1).reshape(-1, width, 1)
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        known = self.found.get(name, (low, high))
        self.found[name] = torch.minimum(low, known[0]), torch.maximum(high, known[1])
