"""Kinks that cancel between the two sides, lie beside a point, or hide in operations; the kinds at 0 are by hand."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import liftscape as ls

from .functions import F64, risk_of

NO_MINIMUM = {"one-sided saddle", "not critical", "undecided"}
MINIMUM = {"local minimum", "non-smooth stationary", "minimum candidate", "undecided"}
SMOOTH_MINIMUM = {"local minimum", "undecided"}


class Marked(torch.autograd.Function):
    """x with a derivative that is 0 at x = 0."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x != 0).to(g)


CASES = {
    "i0e": (lambda p: p[0] - p[0] * torch.special.i0e(p[0]) + 0.1 * p[0] ** 2 + p[1] ** 2, 2, NO_MINIMUM),
    "complex abs": (lambda p: p[0] * torch.complex(p[0], p[1]).abs() + 0.1 * (p**2).sum(), 2, NO_MINIMUM),
    "spectrum": (lambda p: p[0] * torch.fft.rfft(p).abs().sum() + 0.5 * (p**2).sum(), 4, NO_MINIMUM),
    "finite mask": (lambda p: torch.where(torch.isfinite(1 / p), p, 0).sum() + (p**2).sum(), 2, NO_MINIMUM),
    "not": (lambda p: torch.where(p.logical_not(), 0, p).sum() + (p**2).sum(), 2, NO_MINIMUM),
    "numpy": (lambda p: (torch.from_numpy(p.detach().numpy() != 0).to(p) * p).sum() + (p**2).sum(), 2, NO_MINIMUM),
    "a derivative of its own": (lambda p: Marked.apply(p).sum() + (p**2).sum(), 2, NO_MINIMUM),
    "a point of its own": (lambda p: torch.where(p.logical_not(), 1 + p**2, p**2).sum(), 2, NO_MINIMUM),
    "any": (lambda p: -1.0 * p.any() + (p**2).sum(), 2, NO_MINIMUM),
    "max pool with ceil": (
        lambda p: (
            (p**2).sum()
            + 0 * functional.max_pool2d((p + torch.arange(9).to(p)).reshape(1, 1, 3, 3), 2, ceil_mode=True).sum()
        ),
        9,
        SMOOTH_MINIMUM,
    ),
    "sorted far apart": (
        lambda p: ((p + torch.arange(3).to(p)).sort().values - torch.arange(3).to(p)).square().sum(),
        3,
        SMOOTH_MINIMUM,
    ),
    "a saddle sorted far apart": (
        lambda p: (
            ((p + torch.arange(2).to(p)).sort().values - torch.arange(2).to(p)).square()
            @ torch.tensor([1.0, -1.0]).to(p)
        ),
        2,
        {"strict saddle", "undecided"},
    ),
    "atan2": (lambda p: torch.atan2(p[0], 1 + p[1] ** 2) ** 2 + p[1] ** 2, 2, SMOOTH_MINIMUM),
    "slogdet": (
        lambda p: -torch.linalg.slogdet(torch.eye(2).to(p) + torch.diag(p)).logabsdet + p.sum(),
        2,
        SMOOTH_MINIMUM,
    ),
    "a kink beside": (lambda p: (p**2 - torch.relu(p - 1e-7) + torch.relu(-p - 1e-7)).sum(), 1, SMOOTH_MINIMUM),
    "a fall beside": (lambda p: (p**2 - 2 * torch.relu(p - 1e-7)).sum(), 1, SMOOTH_MINIMUM),
    "a rise beside": (lambda p: (p**2 + torch.relu(p - 1e-7)).sum(), 1, SMOOTH_MINIMUM),
    "constants with kinks": (lambda p: (torch.tensor([1.0, 1e-8]).to(p).abs() * p**2).sum(), 2, SMOOTH_MINIMUM),
    "a slope beside a steep bowl": (lambda p: 1e10 * p[0] ** 2 + p[1].abs() + p[2], 3, NO_MINIMUM),
    "a small slope": (lambda p: 1e3 * p[0] ** 2 + p[1].abs() + 1e-5 * p[2], 3, NO_MINIMUM),
    "a smaller slope": (lambda p: p[0] ** 2 + p[1].abs() + 1e-7 * p[2], 3, NO_MINIMUM),
    "a thin roof": (lambda p: ((1e3 * p.abs()).clamp(max=1e-9) - p).sum(), 1, MINIMUM),
    "a thin gutter": (lambda p: ((1e3 * p.abs()).clamp(max=1e-9) - p.abs()).sum(), 1, MINIMUM),
    "deviation": (lambda p: p.std() + 0.1 * (p[0] - p[1]), 3, MINIMUM),
    "spectrum and slope": (lambda p: torch.fft.rfft(p).abs().sum() + 0.3 * p[0], 4, MINIMUM),
    "modulus and slope": (lambda p: torch.complex(p[0], p[1]).abs() + 0.3 * p[0], 2, MINIMUM),
    "power 3/2": (lambda p: (p**2).pow(0.75).sum(), 2, MINIMUM),
    "root and slope": (lambda p: ((p**2).sqrt() - p / 2).sum(), 2, MINIMUM),
    "a huge norm": (lambda p: 1e200 * (p.abs().sum() - p[0] / 2), 2, MINIMUM),
    "a quartic under a constant": (lambda p: 1 + p[0] ** 2 + 1e-6 * p[1] ** 4 - p[1] ** 6, 2, MINIMUM),
    "a smaller quartic": (lambda p: 1 + p[0] ** 2 + 1e-9 * p[1] ** 4 - p[1] ** 7, 2, MINIMUM),
    "a quartic below a quintic": (lambda p: p[0] ** 2 + 1e-12 * p[1] ** 4 - p[1] ** 5, 2, MINIMUM),
}


@pytest.mark.parametrize("name", CASES)
def test_no_kind_is_wrong(name: str) -> None:
    function, variables, right = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind = ls.certify(risk_of(function, torch.zeros(variables, dtype=F64))).kind
        except (ls.LiftscapeError, ls.outcomes.NotFiniteError):
            kind = "undecided"
    assert kind in right


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrences_are_smooth(layer: type[nn.Module]) -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.out = layer(2, 2, batch_first=True), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.core(x)[0][:, -1])

    generator = torch.Generator().manual_seed(0)
    model, x = Read().to(F64), torch.randn(30, 4, 2, generator=generator, dtype=F64)
    certificate = ls.certify(ls.EmpiricalRisk(model, "mse", (x, model(x).detach())))
    assert "operations_not_known_to_be_smooth" not in certificate.evidence
    assert certificate.kind in {"local minimum", "minimum candidate", "undecided"}


def test_a_causal_mask_is_no_number_that_rounding_moves() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.v = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.q(x) @ x.transpose(1, 2)
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            return torch.softmax(scores.masked_fill(mask, float("-inf")), -1) @ self.v(x)

    generator = torch.Generator().manual_seed(0)
    model, x = Attention().to(F64), torch.randn(20, 3, 2, generator=generator, dtype=F64)
    certificate = ls.certify(ls.EmpiricalRisk(model, "mse", (x, model(x).detach())))
    assert certificate.kind in {"local minimum", "minimum candidate"}


@pytest.mark.parametrize("power", [0, 10, 14, 20, 26])
def test_an_exact_rescaling_leaves_a_minimum_what_it_is(power: int) -> None:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).to(F64)
    for _ in range(64):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
        x = torch.randn(60, 2, generator=generator, dtype=F64)
        try:
            y = ls.plant_critical_point(model, x, kind="minimum", generator=generator)
            break
        except ls.LiftscapeError:
            continue
    with torch.no_grad():
        model[0].weight.mul_(2.0**-power)
        model[0].bias.mul_(2.0**-power)
        model[2].weight.mul_(2.0**power)
    kind = ls.certify(ls.EmpiricalRisk(model, "mse", (x, y))).kind
    assert kind in {"degenerate local minimum", "minimum candidate", "undecided", "not critical"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [True, 1.0, [1], -1, 7, "one", torch.full((2, 1), float("nan"), dtype=F64)])
def test_what_is_no_flat_direction_is_refused_in_a_sentence(given: object) -> None:
    with pytest.raises(ls.LiftscapeError, match="known_flat"):
        ls.certify(risk_of(lambda p: p[0] ** 2 + 0 * p[1], [0.0, 0.0]), known_flat=given)


@pytest.mark.parametrize("max_parameters", [4000, 3])
@pytest.mark.parametrize("scale", [1.0, 1e2])
def test_rounding_is_no_gradient(max_parameters: int, scale: float) -> None:
    """Σ s[tanh(a + p) − (2σ(2(a + p)) − 1)] vanishes for every p."""
    a = torch.linspace(-1, 1, 8)
    function = lambda p: (scale * (torch.tanh(a + p) - (2 * torch.sigmoid(2 * (a + p)) - 1)) + p**2).sum()
    risk = risk_of(function, torch.zeros(8))
    assert ls.certify(risk, max_parameters=max_parameters).kind not in {"not critical", "gradient-flat"}
