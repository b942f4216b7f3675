"""The curvature that a split adds: the second derivatives along the fibre of its chart."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.embedding._readers import find_readers
from liftscape.functional import copy_model, hooked
from liftscape.outcomes import EmbeddingError
from liftscape.risk import EmpiricalRisk
from liftscape.samples import batch_size

__all__ = ["copies_block", "fibre_block"]


def fibre_block(
    risk: EmpiricalRisk, at: str, neuron: int, share: float | None = None, inputs: Any = None
) -> Float[Tensor, "K K"]:
    """Return the curvature that splitting one neuron adds, for which inertia(H') = inertia(H) + inertia(block).

    With z_i = a σ(w·h_i + b) the neuron's part of what its readers compute, e_i = ∂R/∂z_i frozen and h̃ = (h, 1),

        H₂ₛ = ∇²_(w,b,a) Σ_i e_iᵀ a σ(w·h_i + b) = [[A, Cᵀ], [C, 0]],
        A = Σ_i (e_i·a) σ''(w·h_i + b) h̃_i h̃_iᵀ,   C = Σ_i e_i σ'(w·h_i + b) h̃_iᵀ,

    and the Hessian of the split network is, in coordinates of its chart and of its fibre w₁ = w + (1−α)δ,
    w₂ = w − αδ, a₁ = αa + η, a₂ = (1−α)a − η, exactly diag(H, [[α(1−α)A, Cᵀ], [C, 0]]): at any depth, at any point,
    and whatever the layer below is. For α ∉ {0, 1} the block is congruent to α(1−α)H₂ₛ. C vanishes at a critical
    point with one reading output and a ≠ 0; where C ≠ 0, every α makes a strict saddle.

    Source: theory §6, with the mixed terms for α ∈ {0, 1}; Zhang et al. 2021 (arXiv 2105.14573) for the embedding.

    Args:
        risk: the risk of the network that has not been split, M parameters.
        at: the name of the Linear whose output neuron is split.
        neuron: the row of its weight.
        share: α for the block of that split; None for H₂ₛ.
        inputs: samples that the forward pass is recorded with, where it cannot be traced symbolically.

    Returns:
        The block (K, K), K = in-features + 1 (with bias) + out-features of the readers, in the order (w, b, a).

    Raises:
        EmbeddingError: if the neuron does not exist.
        SiteError: if the neurons are used by more than Linears that read them through pointwise functions.

    Example:
        >>> from liftscape.risk import EmpiricalRisk
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)).double()
        >>> x = torch.ones(2, 1, dtype=torch.float64)
        >>> fibre_block(EmpiricalRisk(model, "mse", (x, model(x).detach())), "0", 0)
        tensor([[0., 0., 0.],
                [0., 0., 0.],
                [0., 0., 0.]], dtype=torch.float64)
    """
    readers = find_readers(risk.model, at, inputs)
    rows = _linear(risk.model, at).out_features
    if not 0 <= neuron < rows:
        raise EmbeddingError(f"neuron must be one of the {rows} outputs of '{at}', 0 to {rows - 1}, not {neuron}.")
    model = copy_model(risk.model)
    site, maps = _linear(model, at), [_linear(model, name) for name in readers]
    width = site.in_features + (site.bias is not None)
    A = site.weight.new_zeros(width, width).detach()
    C = [A.new_zeros(reader.out_features, width) for reader in maps]
    twin = risk.with_model(model)
    for batch in twin.batches:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in twin.parameters.items()}
        weight = batch_size(batch[0]) / twin.batches.samples
        with torch.enable_grad():
            with _recorded_calls(site, maps, cut=False) as calls:
                value = twin.batch_value(leaves, batch) * weight
            errors = torch.autograd.grad(value, calls.reader_outputs, allow_unused=True, materialize_grads=True)
            with _recorded_calls(site, maps, cut=True) as calls:
                twin.batch_value(leaves, batch)
            for (index, read), error in zip(calls.reader_inputs, errors, strict=True):
                h, slope, curvature = _derivatives(read, calls, neuron, site.bias is not None)
                e = error.reshape(-1, error.shape[-1])
                A += h.T @ ((e @ maps[index].weight[:, neuron].detach() * curvature).unsqueeze(1) * h)
                C[index] += (e * slope.unsqueeze(1)).T @ h
    mixed = torch.cat(C)
    scale = 1.0 if share is None else share * (1 - share)
    return torch.cat([torch.cat([scale * A, mixed.T], 1), torch.cat([mixed, A.new_zeros(len(mixed), len(mixed))], 1)])


def copies_block(
    risk: EmpiricalRisk, at: str, neuron: int, shares: Sequence[float], inputs: Any = None
) -> Float[Tensor, "K K"]:
    """Return the curvature that sharing one neuron out among copies adds, of which a split is the case of two.

    Copies j with in-weights w + δ_j and out-weights β_j a + η_j, Σβ_jδ_j = 0 and Ση_j = 0, move R to second order by
    ½Σ_jβ_j δ_jᵀAδ_j + Σ_j η_jᵀCδ_j, and not at all together with the chart.

    Source: derived (theory 6).

    Args:
        risk: the risk of the network before, M parameters.
        at: the name of the Linear whose output neuron is copied.
        neuron: the row of its weight.
        shares: β of all copies, which add up to 1.
        inputs: as for :func:`fibre_block`.

    Returns:
        The block in an orthonormal basis of the fibre, first of all δ, then of all η.
    """
    H2 = fibre_block(risk, at, neuron, None, inputs)
    site = _linear(risk.model, at)
    inner = site.in_features + (site.bias is not None)
    A, C = H2[:inner, :inner], H2[inner:, :inner]
    beta = torch.tensor(list(shares), dtype=H2.dtype, device=H2.device)
    delta, eta = (torch.linalg.svd(row[None])[2][1:].T for row in (beta, torch.ones_like(beta)))
    mixed = torch.kron(eta.T @ delta, C)
    upper = torch.cat([torch.kron(delta.T @ (beta[:, None] * delta), A), mixed.T], 1)
    return torch.cat([upper, torch.cat([mixed, H2.new_zeros(len(mixed), len(mixed))], 1)])


def _linear(model: nn.Module, name: str) -> nn.Linear:
    """Return a Linear by name."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


@dataclass
class _Calls:
    """What the calls of the split map and of its readers took and gave, in order."""

    features: list[Tensor] = field(default_factory=list)
    preactivations: list[Tensor] = field(default_factory=list)
    reader_inputs: list[tuple[int, Tensor]] = field(default_factory=list)
    reader_outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def _recorded_calls(site: nn.Module, readers: Sequence[nn.Module], cut: bool) -> Generator[_Calls]:
    """Record while the context lasts; with `cut`, each pre-activation is a leaf and calls do not see each other."""
    calls = _Calls()

    def at_site(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        z = output.detach().requires_grad_() if cut else output
        calls.features.append(args[0].detach())
        calls.preactivations.append(z)
        return z.clone()  # an activation may work in place

    def at_reader(index: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            calls.reader_inputs.append((index, args[0]))
            calls.reader_outputs.append(output)
            return output.clone()

        return hook

    with hooked(after=[(site, at_site), *((reader, at_reader(index)) for index, reader in enumerate(readers))]):
        yield calls


def _derivatives(read: Tensor, calls: _Calls, neuron: int, biased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return h̃ (n, K), σ' and σ'' (n,) of the one call of the split map that a reader's call reads."""
    leaves = calls.preactivations
    firsts = torch.autograd.grad(read[..., neuron].sum(), leaves, create_graph=True, allow_unused=True)
    place, first = next((place, first) for place, first in enumerate(firsts) if first is not None)
    second = torch.zeros_like(first)
    if first.requires_grad:
        (second,) = torch.autograd.grad(
            first[..., neuron].sum(), leaves[place], retain_graph=True, allow_unused=True, materialize_grads=True
        )
    h = calls.features[place].reshape(-1, calls.features[place].shape[-1])
    h = torch.cat([h, torch.ones_like(h[:, :1])], 1) if biased else h
    return h, first[..., neuron].detach().reshape(-1), second[..., neuron].detach().reshape(-1)
