"""That the networks of an ensemble differ in their parameters and buffers alone."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from liftscape.functional import at_every_place, call_model, output_tensor, untouched
from liftscape.outcomes import ModelError

__all__ = ["require_alike", "vectorising"]

# On how many samples networks are compared, by how much weights are moved, and the ulps by which outputs may differ.
_SAMPLES, _MOVE, _ULPS = 256, 0.1, 1e4


def require_alike(
    models: Sequence[nn.Module], theta: Mapping[str, Tensor], constants: Mapping[str, Tensor], inputs: Tensor
) -> None:
    """Raise unless each network computes what the stacked call of the first one does with its tensors.

    Random features in a plain attribute are no tensor of the state. Weights are moved as well, since where the last
    layer starts from zero all outputs are the same.

    Args:
        models: of one architecture.
        theta: their trainable parameters, (K, …).
        constants: the rest of their state, (K, …).
        inputs: of which the first samples are used.

    Raises:
        ModelError: if one does not.
    """
    draws = torch.Generator().manual_seed(0)
    noise = lambda tensor: torch.randn(tensor.shape, generator=draws, dtype=torch.float64).to(tensor)
    moved = {name: tensor + _MOVE * noise(tensor) for name, tensor in theta.items()}
    for weights in (dict(theta), moved):
        _compare(models, weights, constants, inputs[:_SAMPLES])


def _compare(
    models: Sequence[nn.Module], theta: Mapping[str, Tensor], constants: Mapping[str, Tensor], inputs: Tensor
) -> None:
    """Compare the networks, each called alone, with the stacked call at some weights."""
    first = models[0]

    def call(own: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        return output_tensor(
            functional_call(first, at_every_place(first, {**own, **fixed}), (inputs,), tie_weights=False)
        )

    with torch.no_grad(), untouched(first):
        try:
            # BatchNorm in training mode writes its statistics.
            stacked = vmap(call)(dict(theta), {name: tensor.clone() for name, tensor in constants.items()})
        except RuntimeError as error:
            raise ModelError(vectorising(first, error)) from error
    for index, model in enumerate(models):
        state = {name: tensor[index].clone() for name, tensor in constants.items()}
        buffers = {name: state[name] for name, _ in model.named_buffers()}
        with torch.no_grad(), untouched(model):
            alone = output_tensor(
                call_model(model, state | {name: own[index] for name, own in theta.items()}, inputs, buffers)
            )
        allowed = _ULPS * torch.finfo(alone.dtype).eps * float(alone.abs().max())
        if bool(torch.isfinite(alone).all()) and not float((alone - stacked[index]).abs().max()) <= allowed:
            raise ModelError(
                f"network {index} computes something else than the first one with its tensors, as where "
                f"{type(model).__name__} keeps random numbers in a plain attribute; register them as buffers, or train "
                "the networks one by one."
            )


def vectorising(model: nn.Module, error: RuntimeError) -> str:
    """Return why a network cannot be trained in an ensemble.

    Args:
        model: the network.
        error: of torch's.

    Returns:
        One sentence.
    """
    return (
        f"{type(model).__name__} cannot be trained in an ensemble, since torch cannot vectorise it "
        f"({' '.join(str(error).split())[:200]}); train its copies one by one."
    )
