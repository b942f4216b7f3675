"""Planting a critical point: targets under which given parameters are critical."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape.derivatives import Hessian, backward_rows
from liftscape.functional import call_model, require_module, trainable_parameters
from liftscape.outcomes import LiftscapeError, ModelError
from liftscape.samples import as_batches, batch_size, check_model

__all__ = ["plant_critical_point"]

_ZERO_SINGULAR_VALUE = 1e-10
_WORST_CONDITION = 1e-7
_NO_CURVATURE = 1e-10
# Half the critical scale leaves a minimum, five times the critical scale leaves four units of negative curvature.
_SCALE = {"minimum": 0.5, "saddle": 5.0}
_COLUMNS = 64


def plant_critical_point(
    model: nn.Module,
    inputs: Any,
    *,
    kind: Literal["minimum", "saddle"] = "minimum",
    generator: torch.Generator | int | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return targets y = f_θ(x) − t r under which the model's parameters are critical for the mean squared error.

    r is drawn from the left kernel of the output Jacobian J (n·D × M), so ∇R = 2 t Jᵀr / (nD) = 0 to rounding. The
    Hessian is (2 / nD) (H₁ + t H₂), H₁ = JᵀJ, H₂ = Σ r_i ∇²f_i. With t* = 1 / max(−λ_min), λ the eigenvalues of H₂
    whitened by H₁ on its range, t*/2 is a minimum and 5t* a strict saddle. Where H₂ vanishes the spread of t r is that
    of the outputs, and the point is a minimum.

    Source: derived; no statement of the paper. H = H₁ + H₂ is the Gauss-Newton decomposition.

    Args:
        model: the network, float64; it is evaluated on all inputs at once and not changed.
        inputs: n samples, as the model takes them.
        kind: "minimum" (zeros of H are those of H₁, as from symmetries) or "saddle" (n₋ ≥ 1).
        generator: source of r, on the CPU; seed 0 when None.

    Returns:
        Targets of the outputs' shape.

    Raises:
        LiftscapeError: if there is no r (n·D ≤ rank J), J is ill conditioned, H₂ = 0 and a saddle is asked for, or H₂
            does not vanish on the kernel of J and a minimum is asked for.
        ModelError: if the model is not a deterministic float64 function.
        DataError: if the inputs cannot be used.

    Example:
        >>> from liftscape import nets
        >>> from liftscape.risk import EmpiricalRisk
        >>> draws = torch.Generator().manual_seed(0)
        >>> model, x = nets.mlp((2, 2, 1)), torch.randn(60, 2, generator=draws, dtype=torch.float64)
        >>> risk = EmpiricalRisk(model, "mse", (x, plant_critical_point(model, x, kind="saddle")))
        >>> bool(risk.gradient().norm() < 1e-13), bool(torch.linalg.eigvalsh(risk.hessian().to_dense())[0] < -1e-6)
        (True, True)
    """
    if kind not in _SCALE:
        raise LiftscapeError(f"kind must be 'minimum' or 'saddle', but {kind!r} was given.")
    planting = _planting(require_module(model), inputs, as_generator(generator))
    lowest, highest = planting.whitened
    # −r turns the sign of H₂, so either end of the spectrum gives a critical scale; the nearer one is used.
    sign, steepest = (1.0, -lowest) if -lowest >= highest else (-1.0, highest)
    if steepest <= _NO_CURVATURE:
        if kind == "saddle":
            raise LiftscapeError(
                f"a saddle cannot be planted at {type(model).__name__} on these inputs, since H₂ = Σ r_i ∇²f_i "
                "vanishes, as for one hidden layer with scalar output and piecewise linear σ; ask for a minimum."
            )
        scale = float(planting.outputs.norm() / planting.residual.norm())
    else:
        if kind == "minimum" and planting.kernel_leak > _NO_CURVATURE:
            raise LiftscapeError(
                f"a minimum cannot be planted at {type(model).__name__} on these inputs, since H₂ does not vanish on "
                f"the kernel of the output Jacobian (relative size {planting.kernel_leak:.1e}); draw other weights."
            )
        scale = _SCALE[kind] / steepest
    return planting.outputs - sign * scale * planting.residual.view_as(planting.outputs)


@dataclass(frozen=True)
class _Planting:
    """What gives the critical scale: f, r, the ends of the whitened spectrum, and H₂ outside H₁'s range."""

    outputs: Tensor
    residual: Float[Tensor, " n_outputs"]
    whitened: tuple[float, float]
    kernel_leak: float


def _planting(model: nn.Module, inputs: Any, generator: torch.Generator) -> _Planting:
    """Draw r and whiten H₂ by H₁ on its range."""
    outputs = _check(model, inputs)
    params = trainable_parameters(model)
    size = sum(tensor.numel() for tensor in params.values())
    if outputs.numel() <= size:
        raise LiftscapeError(
            f"a critical point needs more residuals than parameters to be planted, but outputs have shape "
            f"{tuple(outputs.shape)} ({outputs.numel()} residuals) and {type(model).__name__} has {size} parameters; "
            f"give at least {-(-5 * size * len(outputs) // outputs.numel())} samples."
        )
    jacobian = _output_jacobian(model, params, inputs)
    left, singular, right = torch.linalg.svd(jacobian, full_matrices=False)
    rank = int((singular > _ZERO_SINGULAR_VALUE * singular[0]).sum())
    condition = float((singular[rank - 1] / singular[0]) ** 2) if rank else 0.0
    if condition < _WORST_CONDITION:
        raise LiftscapeError(
            f"the output Jacobian {tuple(jacobian.shape)} of {type(model).__name__} is ill conditioned: H₁'s "
            f"smallest non-zero eigenvalue is {condition:.1e} of the largest; draw other weights."
        )
    left = left[:, :rank]
    residual = torch.randn(len(jacobian), generator=generator, dtype=torch.float64).to(jacobian)
    for _ in range(2):
        residual = residual - left @ (left.T @ residual)
    curvature = _residual_hessian(model, params, inputs, residual)
    whitener, kernel = right[:rank].T / singular[:rank], right[rank:].T
    inside = whitener.T @ curvature @ whitener
    eigenvalues = torch.linalg.eigvalsh((inside + inside.T) / 2)
    leak = float((curvature @ kernel).norm() / curvature.norm()) if kernel.numel() and curvature.norm() > 0 else 0.0
    return _Planting(outputs, residual, (float(eigenvalues[0]), float(eigenvalues[-1])), leak)


def _check(model: nn.Module, inputs: Any) -> Tensor:
    """Return the outputs, or raise unless the model is a deterministic float64 function on the inputs."""
    batches = as_batches((inputs, torch.zeros(batch_size(inputs), 1)))
    outputs = check_model(model, inputs, batches.count)
    if not isinstance(outputs, Tensor):
        raise ModelError(
            f"planting gives targets for one output tensor, but {type(model).__name__} returns a "
            f"{type(outputs).__name__}; wrap it in a module that returns the tensor."
        )
    if outputs.dtype != torch.float64:
        raise ModelError(
            f"planting needs float64, since a gradient that vanishes to 1e-7 is not critical, but "
            f"{type(model).__name__} returns {outputs.dtype}; convert model and inputs with .double()."
        )
    return outputs


def _output_jacobian(model: nn.Module, params: dict[str, Tensor], inputs: Any) -> Float[Tensor, "n_outputs M"]:
    """Return J by backward passes, several rows at once."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    with torch.enable_grad():
        outputs = call_model(model, leaves, inputs).reshape(-1)
    identity = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
    return torch.cat([backward_rows(outputs, list(leaves.values()), block) for block in identity.split(_COLUMNS)])


def _residual_hessian(model: nn.Module, params: dict[str, Tensor], inputs: Any, residual: Tensor) -> Tensor:
    """Return H₂ = Σ r_i ∇²f_i."""

    def terms(theta: dict[str, Tensor]) -> Iterator[Tensor]:
        yield (call_model(model, theta, inputs).reshape(-1) * residual).sum()

    dense = Hessian(terms, params).to_dense()
    return (dense + dense.T) / 2
