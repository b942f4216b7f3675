"""Networks under scalings of their features: the kind is that of the same network at scale one, or undecided."""

import copy

import pytest
import torch
from torch import nn

import liftscape as ls

from .functions import F64

SCALES = [1e-8, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e8]
ACTIVATIONS = {"tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


def planted(kind: str, activation: str, seed: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """Plant a point of one hidden layer with a scalar output at scale one."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(64):
        model = nn.Sequential(nn.Linear(2, 2), ACTIVATIONS[activation](), nn.Linear(2, 1)).to(F64)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
        x = torch.randn(60, 2, generator=generator, dtype=F64)
        try:
            return model, x, ls.plant_critical_point(model, x, kind=kind, generator=generator)
        except ls.LiftscapeError:
            continue
    raise AssertionError("no draw is well conditioned")


def scaled(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, scale: float) -> ls.EmpiricalRisk:
    """Return the same function of features that are larger, with smaller weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.div_(scale)
    return ls.EmpiricalRisk(other, "mse", (scale * x, y))


def tolerance(scale: float) -> float:
    """Return a tolerance for gradients that rounding alone makes larger with the features."""
    return max(1e-9, 1e-13 * max(scale, 1.0))


def is_right(kind: str, activation: str, seed: int, scale: float) -> None:
    certificate = ls.certify(scaled(*planted(kind, activation, seed), scale), tolerance=tolerance(scale))
    right = {"local minimum", "minimum candidate"} if kind == "minimum" else {"strict saddle"}
    assert certificate.kind in right | {"undecided"}, certificate.reason
    if scale == 1.0:
        assert certificate.kind == ("local minimum" if kind == "minimum" else "strict saddle")


def copy_is_no_minimum(seed: int, scale: float) -> None:
    """A copy without an out-weight makes a minimum with scalar output a saddle of third order."""
    risk = scaled(*planted("minimum", "tanh", seed), scale)
    copied = risk.with_model(ls.split(risk.model, None, "0", neuron=0, share=0.0).model)
    flat = {name: torch.zeros_like(tensor) for name, tensor in copied.parameters.items()}
    flat["2.weight"][0, 0], flat["2.weight"][0, -1] = 1.0, -1.0
    certificate = ls.certify(copied, known_flat=copied.flatten(flat)[:, None], tolerance=tolerance(scale))
    assert certificate.kind in {"saddle", "minimum candidate", "undecided"}, certificate.reason
    if scale == 1.0:
        assert certificate.kind == "saddle"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["minimum", "saddle"])
def test_scaled_features_make_no_kind_wrong(kind: str, scale: float) -> None:
    is_right(kind, "tanh", 0, scale)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_copy_of_a_neuron_is_no_minimum_at_any_scale(scale: float) -> None:
    copy_is_no_minimum(0, scale)


@pytest.mark.long
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["minimum", "saddle"])
@pytest.mark.parametrize("seed", range(3))
def test_scaled_features_make_no_kind_wrong_in_many(kind: str, activation: str, seed: int, scale: float) -> None:
    is_right(kind, activation, seed, scale)


@pytest.mark.long
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_copy_of_a_neuron_is_no_minimum_at_any_scale_in_many(seed: int, scale: float) -> None:
    copy_is_no_minimum(seed, scale)
