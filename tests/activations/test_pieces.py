"""The table of affine pieces against the activations themselves, for every activation of torch.nn."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import activation as torch_activations

from liftscape.activations import affine_pieces, affine_tails, inflections, kinks
from liftscape.outcomes import ActivationError

F64 = torch.float64
inf = math.inf

EXACT: list[tuple[nn.Module, list[tuple[float, float, float, float]]]] = [
    (nn.ReLU(), [(-inf, 0, 0, 0), (0, inf, 1, 0)]),
    (nn.ReLU(inplace=True), [(-inf, 0, 0, 0), (0, inf, 1, 0)]),
    (nn.LeakyReLU(0.2), [(-inf, 0, 0.2, 0), (0, inf, 1, 0)]),
    (nn.LeakyReLU(1.0), [(-inf, inf, 1, 0)]),
    (nn.PReLU(init=0.3), [(-inf, 0, 0.3, 0), (0, inf, 1, 0)]),
    (nn.RReLU(0.1, 0.3).eval(), [(-inf, 0, 0.2, 0), (0, inf, 1, 0)]),
    (nn.ELU(1.5), [(0, inf, 1, 0)]),
    (nn.SELU(), [(0, inf, 1.0507009873554805, 0)]),
    (nn.CELU(0.7), [(0, inf, 1, 0)]),
    (nn.Hardtanh(-2.0, 3.0), [(-inf, -2, 0, -2), (-2, 3, 1, 0), (3, inf, 0, 3)]),
    (nn.ReLU6(), [(-inf, 0, 0, 0), (0, 6, 1, 0), (6, inf, 0, 6)]),
    (nn.Hardsigmoid(), [(-inf, -3, 0, 0), (-3, 3, 1 / 6, 0.5), (3, inf, 0, 1)]),
    (nn.Hardswish(), [(-inf, -3, 0, 0), (3, inf, 1, 0)]),
    (nn.Softshrink(0.4), [(-inf, -0.4, 1, 0.4), (-0.4, 0.4, 0, 0), (0.4, inf, 1, -0.4)]),
    (nn.Hardshrink(0.4), [(-inf, -0.4, 1, 0), (-0.4, 0.4, 0, 0), (0.4, inf, 1, 0)]),
    (nn.Threshold(0.5, -2.0), [(-inf, 0.5, 0, -2), (0.5, inf, 1, 0)]),
    (nn.Softplus(beta=2.0, threshold=10.0), [(5, inf, 1, 0)]),
    (nn.Identity(), [(-inf, inf, 1, 0)]),
]
SMOOTH = [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.LogSigmoid(), nn.Tanhshrink()]
NOT_POINTWISE = {"GLU", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "MultiheadAttention"}


def ident(module: object) -> str:
    return str(module)


def inside(lower: float, upper: float) -> Tensor:
    low, high = max(lower, -50.0), min(upper, 50.0)
    return torch.linspace(low, high, 403, dtype=F64)[1:-1]


@pytest.mark.parametrize(("module", "expected"), EXACT, ids=ident)
def test_pieces_are_those_listed_and_hold_on_the_activation(
    module: nn.Module, expected: list[tuple[float, float, float, float]]
) -> None:
    module = module.to(F64)
    pieces = affine_pieces(module)
    found = [(p.lower, p.upper, p.slope, p.intercept) for p in pieces]
    assert found == [pytest.approx(line, rel=1e-7, abs=1e-12) for line in expected]
    for piece in pieces:
        t = inside(piece.lower, piece.upper)
        with torch.no_grad():
            gap = (module(t.clone()) - piece.slope * t - piece.intercept).abs()
        assert float(gap.max()) <= 4 * torch.finfo(F64).eps * 50


@pytest.mark.parametrize(("module", "expected"), EXACT, ids=ident)
def test_pieces_are_maximal_and_ends_are_kinks(module: nn.Module, expected: list) -> None:
    module = module.to(F64)
    points = kinks(module)
    for piece in affine_pieces(module):
        for end, outwards in ((piece.lower, -1.0), (piece.upper, 1.0)):
            if math.isinf(end):
                continue
            assert any(abs(end - point) < 1e-12 for point in points)
            t = torch.tensor([end + outwards * step for step in (1e-3, 1e-2, 1e-1)], dtype=F64)
            with torch.no_grad():
                gap = (module(t.clone()) - piece.slope * t - piece.intercept).abs()
            # Softplus deviates by what float64 leaves at its threshold.
            assert float(gap.max()) > (1e-12 if isinstance(module, nn.Softplus) else 1e-7)


@pytest.mark.parametrize("module", SMOOTH, ids=ident)
def test_analytic_activations_have_no_piece_and_no_kink(module: nn.Module) -> None:
    assert affine_pieces(module) == ()
    assert kinks(module) == ()


def test_slopes_of_prelu_are_read_channel_by_channel() -> None:
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.1, -0.5, 2.0]))
    slopes = [[piece.slope for piece in affine_pieces(module, channel=channel)] for channel in range(3)]
    assert slopes == [pytest.approx([slope, 1.0]) for slope in (0.1, -0.5, 2.0)]


@pytest.mark.parametrize(
    ("spelling", "arguments", "module"),
    [
        (F.relu, (), nn.ReLU()),
        (torch.relu, (), nn.ReLU()),
        (torch.relu_, (), nn.ReLU()),
        (Tensor.relu, (), nn.ReLU()),
        (F.relu6, (), nn.ReLU6()),
        (F.leaky_relu, (0.2,), nn.LeakyReLU(0.2)),
        (F.elu, (), nn.ELU()),
        (F.selu, (), nn.SELU()),
        (F.celu, (), nn.CELU()),
        (F.hardtanh, (-2.0, 2.0), nn.Hardtanh(-2.0, 2.0)),
        (F.hardswish, (), nn.Hardswish()),
        (F.hardsigmoid, (), nn.Hardsigmoid()),
        (F.softshrink, (0.3,), nn.Softshrink(0.3)),
        (F.hardshrink, (0.3,), nn.Hardshrink(0.3)),
        (F.threshold, (0.5, 1.0), nn.Threshold(0.5, 1.0)),
        (F.softplus, (2.0, 10.0), nn.Softplus(2.0, 10.0)),
        (torch.tanh, (), nn.Tanh()),
        (Tensor.tanh, (), nn.Tanh()),
        (F.gelu, (), nn.GELU()),
        (F.silu, (), nn.SiLU()),
    ],
)
def test_every_spelling_has_the_pieces_of_its_module(
    spelling: Callable[..., Tensor], arguments: tuple[float, ...], module: nn.Module
) -> None:
    assert affine_pieces(spelling, *arguments) == affine_pieces(module)


def test_every_activation_of_torch_is_known_or_is_not_pointwise() -> None:
    known = {type(module).__name__ for module, _ in EXACT} | {type(module).__name__ for module in SMOOTH}
    for name in torch_activations.__all__:
        if name in NOT_POINTWISE:
            continue
        module = getattr(nn, name)(0.5, 1.0) if name == "Threshold" else getattr(nn, name)()
        affine_pieces(module.eval())
        assert name in known | {"Softsign"}, name
    for module in (nn.Softmax(-1), nn.GLU()):
        with pytest.raises(ActivationError):
            affine_pieces(module)
    with pytest.raises(ActivationError):
        affine_pieces(nn.RReLU().train())


@pytest.mark.parametrize(
    "module",
    [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(threshold=60), nn.LogSigmoid(), nn.Tanh()],
    ids=ident,
)
def test_tails_keep_their_stated_bounds(module: nn.Module) -> None:
    tails = affine_tails(module)
    assert tails
    for tail in tails:
        start, sign = (tail.lower, 1.0) if math.isfinite(tail.lower) else (tail.upper, -1.0)
        t = (start + sign * torch.linspace(0, 20, 801, dtype=F64)).requires_grad_()
        value = module(t)
        (slope,) = torch.autograd.grad(value.sum(), t)
        rounding = 4 * torch.finfo(F64).eps * t.detach().abs()
        assert bool(((value - tail.slope * t - tail.intercept).detach().abs() <= tail.bound + rounding).all())
        assert bool(((slope - tail.slope).abs() <= tail.slope_bound + 1e-15).all())
        assert tail.bound <= 1e-12


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.Mish()], ids=ident)
def test_inflections_are_where_the_second_derivative_changes_sign(module: nn.Module) -> None:
    found = inflections(module)
    assert found

    def derivatives(point: float) -> list[float]:
        t = torch.tensor(point, dtype=F64, requires_grad=True)
        values = [module(t)]
        for _ in range(2):
            values.append(torch.autograd.grad(values[-1], t, create_graph=True)[0])
        return [float(value.detach()) for value in values]

    for inflection in found:
        value, slope, second = derivatives(inflection.point)
        assert (inflection.value, inflection.slope) == pytest.approx((value, slope), abs=1e-12)
        assert abs(second) < 1e-10
        assert derivatives(inflection.point - 1e-3)[2] * derivatives(inflection.point + 1e-3)[2] < 0
        assert abs(slope) > 1e-6
