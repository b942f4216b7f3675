"""Derivatives that torch takes for others are refused, and those of honest functions never are.

Each wrong one is made from a function whose value is known in closed form; honest ones are plain torch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import liftscape as ls
from liftscape.derivatives import _derivative_check
from liftscape.outcomes import ModelError

F64 = torch.float64
Function = Callable[[Tensor], Tensor]


def custom(forward: Function, derivative: Callable[[Any, Tensor, Tensor], Tensor], name: str = "Custom") -> Function:
    """A torch function with a derivative of its own: of (ctx, x, cotangent)."""

    def run(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.fixed = x.detach().clone()
        return forward(x)

    def back(ctx: Any, cotangent: Tensor) -> Tensor:
        return derivative(ctx, ctx.saved_tensors[0], cotangent)

    members = {"forward": staticmethod(run), "backward": staticmethod(back)}
    return type(name, (torch.autograd.Function,), members).apply


class Hooked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.0
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
        return y**2


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.mean() + 2
    return x**2 * scale


# Of x, elementwise or nearly so, with a gradient that is not that of the value.
WRONG_GRADIENTS: dict[str, Function] = {
    "detach": lambda x: x * x.detach(),
    "detached scale": lambda x: x**2 / (1 + x.abs().max().detach()),
    "data": lambda x: x * x.data,
    "no_grad": without_gradient,
    "straight through": lambda x: (x + (torch.round(x * 8) / 8 - x).detach()) ** 2,
    "sign straight through": custom(torch.sign, lambda ctx, x, g: g),
    "reversal": custom(lambda x: x.clone(), lambda ctx, x, g: -g),
    "scaled": custom(lambda x: x**2, lambda ctx, x, g: 4 * g * x),
    "slightly wrong": custom(lambda x: x**2, lambda ctx, x, g: 2.01 * g * x),
    "wrong branch": custom(torch.relu, lambda ctx, x, g: g * (x > -10)),
    "clipped": custom(lambda x: x**3, lambda ctx, x, g: (3 * x**2 * g).clamp(-1e-4, 1e-4)),
    "hook": Hooked(),
    "zero": custom(torch.sin, lambda ctx, x, g: 0 * x * g),
    "of the cosine": custom(torch.sin, lambda ctx, x, g: g * x.sin()),
}
# With a gradient that is right, and a second derivative that is not.
WRONG_PRODUCTS: dict[str, Function] = {
    "on ctx": custom(lambda x: x * x, lambda ctx, x, g: 2 * ctx.fixed * g),
    "item": custom(lambda x: x**3, lambda ctx, x, g: 3 * torch.tensor(x.detach().numpy()) ** 2 * g),
    "detached": custom(torch.sin, lambda ctx, x, g: g * x.detach().cos()),
    "half": custom(lambda x: x**4, lambda ctx, x, g: 4 * x**2 * ctx.fixed * g),
    "second scaled": custom(
        lambda x: x**2, lambda ctx, x, g: 2 * g * custom(lambda z: z.clone(), lambda c, z, h: 3 * h)(x)
    ),
    "exponential": custom(lambda x: (10 * x).exp(), lambda ctx, x, g: 10 * g * (10 * ctx.fixed).exp()),
    "eighth": custom(lambda x: x**8, lambda ctx, x, g: 8 * g * ctx.fixed**7),
    "saturating": custom(torch.tanh, lambda ctx, x, g: g * (1 - ctx.fixed.tanh() ** 2)),
}


class Net(nn.Module):
    """Sends the middle layer of a network through a function."""

    def __init__(self, function: Function, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 2)
        self.middle = Through(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


class Through(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Plain(nn.Module):
    """A parameter alone, given to a function."""

    def __init__(self, function: Function, at: Tensor) -> None:
        super().__init__()
        self.p, self.q, self.function = nn.Parameter(at), nn.Parameter(0.3 + 0 * at), function

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.q**2).sum() + self.function(self.p).sum()


X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
Y = torch.randn(20, 2, generator=torch.Generator().manual_seed(2), dtype=F64)


def risk_of(model: nn.Module, scale: float = 1.0, dtype: torch.dtype = F64) -> ls.EmpiricalRisk:
    loss = lambda z, y: scale * F.mse_loss(z, y)
    return ls.EmpiricalRisk(model.to(dtype), loss, (X.to(dtype), Y.to(dtype)))


def plain_risk(function: Function, at: Tensor, scale: float = 1.0) -> ls.EmpiricalRisk:
    x = torch.ones(1, 1, dtype=at.dtype)
    return ls.EmpiricalRisk(Plain(function, at), lambda z, _: scale * z[0, 0], (x, x))


USES: dict[str, Callable[[ls.EmpiricalRisk], object]] = {
    "certify": ls.certify,
    "inspect": ls.inspect,
    "eigenpairs": lambda risk: ls.curvature.eigenpairs(risk.hessian(), 1, which="smallest"),
    "block": lambda risk: ls.curvature.eigenpairs(risk.hessian(at="first"), 1, which="smallest"),
}


@pytest.mark.parametrize("dtype", [F64, pytest.param(torch.float32, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", WRONG_GRADIENTS)
def test_a_gradient_that_is_not_that_of_the_value_is_refused(name: str, dtype: torch.dtype) -> None:
    # One half of a per cent is below what single precision shows of values.
    kind = "the gradient is not the derivative of the loss" if name != "slightly wrong" else "is not the derivative of"
    with pytest.raises(ModelError, match=kind) as raised:
        risk_of(Net(WRONG_GRADIENTS[name]), dtype=dtype).check_derivatives()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [F64, pytest.param(torch.float32, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", WRONG_PRODUCTS)
def test_a_product_that_is_not_the_second_derivative_is_refused(name: str, dtype: torch.dtype) -> None:
    if (name, dtype) != ("item", torch.float32):
        with pytest.raises(ModelError, match=r"the product with the Hessian is not.*Custom in module 'middle'"):
            risk_of(Net(WRONG_PRODUCTS[name]), dtype=dtype).check_derivatives()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", ["detach", "on ctx"])
def test_every_verb_refuses(use: str, name: str) -> None:
    function = WRONG_PRODUCTS[name] if name in WRONG_PRODUCTS else WRONG_GRADIENTS[name]
    with pytest.raises(ModelError, match="is not the derivative of"):
        USES[use](risk_of(Net(function)))


LONG = pytest.mark.long
SCALES = [1e-150, *(pytest.param(scale, marks=LONG) for scale in (1e-6, 1.0, 1e6)), 1e150]
UNITS = [1e-6, *(pytest.param(unit, marks=LONG) for unit in (1e-3, 1.0, 1e3)), 1e6]
AT_A_POINT = ["detach", "slightly wrong", "on ctx", "eighth"]
MORE_AT_A_POINT = ["data", "scaled", "reversal", "half", "detached", "second scaled", "exponential"]
WRONG_AT_A_POINT = [*AT_A_POINT, *(pytest.param(name, marks=LONG) for name in MORE_AT_A_POINT)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", WRONG_AT_A_POINT)
@pytest.mark.parametrize("zero", [False, True])
def test_wrong_derivatives_at_any_scale(name: str, scale: float, unit: float, zero: bool) -> None:
    """R(p) = scale · (f(p / unit) + q²), where nothing tells the scale beforehand."""
    function = (WRONG_GRADIENTS | WRONG_PRODUCTS)[name]
    at = torch.zeros(2, dtype=F64) if zero else unit * torch.tensor([0.7, -0.4], dtype=F64)
    if zero and unit != 1:
        return
    with pytest.raises(ModelError, match="is not the derivative of"):
        plain_risk(lambda p: function(p / unit), at, scale).check_derivatives()


def test_the_saddle_that_was_certified_a_minimum() -> None:
    wrong = WRONG_PRODUCTS["on ctx"]
    risk = plain_risk(lambda p: 0.1 * p[1] ** 2 + p[0] ** 2 - wrong(p[1]), torch.zeros(2, dtype=F64))
    with pytest.raises(ModelError, match=r"for 'p', where .* as Custom in the model itself has it"):
        ls.certify(risk)


def test_a_saturated_classifier_is_no_wrong_derivative() -> None:
    """The value is zero to the last digit while torch's gradient is exp(−z): log(1 + exp(−z)) in closed form."""
    for margin in (5.0, 20.0, 36.0, 40.0, 100.0, 400.0):
        for dtype in (F64, torch.float32):
            linear = nn.Linear(1, 2, dtype=dtype)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor([[margin], [-margin]]))
                linear.bias.zero_()
            x, y = torch.tensor([[1.0], [-1.0]], dtype=dtype), torch.tensor([0, 1])
            ls.EmpiricalRisk(linear, "cross_entropy", (x, y)).check_derivatives()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_one_entry_among_larger_ones(size: float) -> None:
    wrong = WRONG_PRODUCTS["on ctx"]
    risk = plain_risk(lambda p: size * (p[:3] ** 2).sum() - wrong(p[3]), torch.full((4,), 0.5, dtype=F64))
    with pytest.raises(ModelError, match="the product with the Hessian"):
        risk.check_derivatives()


def test_a_small_layer_beside_large_ones() -> None:
    torch.manual_seed(0)
    large = nn.Sequential(nn.Linear(3, 90), nn.Tanh(), nn.Linear(90, 90), nn.Tanh(), nn.Linear(90, 3)).double()
    for function in (WRONG_GRADIENTS["detach"], WRONG_PRODUCTS["on ctx"]):
        with pytest.raises(ModelError, match="is not the derivative of"):
            risk_of(nn.Sequential(large, Net(function))).check_derivatives()


def stair(x: Tensor) -> Tensor:
    return torch.floor(40 * x) / 40 + x


HONEST: dict[str, Function] = {
    "square": lambda x: x**2,
    "tanh": torch.tanh,
    "steep tanh": lambda x: (1e4 * x).tanh(),
    "sine": torch.sin,
    "fast sine": lambda x: (1e4 * x).sin(),
    "fine sine": lambda x: x**2 + 1e-6 * (1e6 * x).sin(),
    "relu": torch.relu,
    "leaky": partial(F.leaky_relu, negative_slope=0.5),
    "difference of relus": lambda x: torch.relu(x) - torch.relu(-x),
    "absolute": torch.abs,
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "where": lambda x: torch.where(x > 0.1, x**2, 0.1 * x),
    "clamp": lambda x: x.clamp(-0.2, 0.3) * x,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "hardswish": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
    "constant": lambda x: 0 * x + 2.0,
    "floor": torch.floor,
    "stair": stair,
    "sign": torch.sign,
    "saturated": lambda x: torch.sigmoid(1e3 * (x + 5)),
    "underflow": lambda x: (-(x**2) * 1e6).exp(),
    "fourth": lambda x: x**4,
    "root": lambda x: (x**2 + 1e-12).sqrt(),
    "cube root": lambda x: (x**2 + 1e-20) ** (1 / 3),
    "norm": lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-3),
    "sort": lambda x: x.sort(-1).values,
    "quantile": lambda x: x - x.median(dim=-1, keepdim=True).values,
    "softmax": lambda x: (100 * x).softmax(-1),
    "cancel": lambda x: (x + 1e8) - 1e8,
    "variance": lambda x: (x + 300).square().mean(-1, keepdim=True) - (x + 300).mean(-1, keepdim=True) ** 2 + 0 * x,
    "single inside": lambda x: x.float().tanh().to(x.dtype),
    "float32 noise": lambda x: x + (x.float() - x.float()).to(x.dtype),
    "detached bound": lambda x: torch.where(x.detach() > 0, x**2, x**3),
    "log sum": lambda x: torch.logsumexp(torch.stack([x, -x, 30 * x]), 0),
    "custom": custom(lambda x: x**3, lambda ctx, x, g: 3 * x**2 * g),
    "erased": lambda x: x - x.detach() + x.detach(),
}


IN_QUICK = {"relu", "difference of relus", "floor", "softmax", "custom", "root"}
QUICK = [name if name in IN_QUICK else pytest.param(name, marks=LONG) for name in HONEST]


@pytest.mark.parametrize("weights", [pytest.param(1e-4, marks=LONG), 1.0, pytest.param(1e3, marks=LONG)])
@pytest.mark.parametrize("name", QUICK)
def test_honest_functions_are_never_refused(name: str, weights: float) -> None:
    for dtype in (F64, torch.float32):
        model = Net(HONEST[name])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(weights)
        risk_of(model, dtype=dtype).check_derivatives()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", QUICK)
def test_honest_functions_at_any_scale(name: str, scale: float, unit: float) -> None:
    for at in (torch.zeros(2, dtype=F64), unit * torch.tensor([0.7, -0.4], dtype=F64)):
        if (name, scale) == ("single inside", 1e-150):
            continue  # refused, see below
        if (name, unit, bool(at.any())) == ("cancel", 1e6, False):
            continue  # a constant in double precision as far as moves from zero reach
        plain_risk(lambda p: HONEST[name](p / unit), at, scale).check_derivatives()


def test_a_gradient_that_underflows_inside_is_not_that_of_the_value() -> None:
    at = torch.tensor([0.7, -0.4], dtype=F64)
    with pytest.raises(ModelError, match=r"the gradient is not the derivative .* torch gives 0,"):
        plain_risk(HONEST["single inside"], at, 1e-150).check_derivatives()


@pytest.mark.parametrize("samples", [3, pytest.param(300, marks=LONG), pytest.param(30_000, marks=LONG)])
@pytest.mark.parametrize("dtype", [F64, torch.float32, pytest.param(torch.bfloat16, marks=LONG)])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, pytest.param(nn.Hardtanh, marks=LONG), nn.GELU])
def test_networks_with_many_kinks(activation: type[nn.Module], dtype: torch.dtype, samples: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 40), activation(), nn.Linear(40, 40), activation(), nn.Linear(40, 3)]
    x, y = torch.randn(samples, 8, dtype=dtype), torch.randint(0, 3, (samples,))
    model = nn.Sequential(*layers).to(dtype)
    ls.EmpiricalRisk(model, "cross_entropy", (x, y)).check_derivatives()
    targets = torch.randn(samples, 3, dtype=dtype)
    ls.EmpiricalRisk(model, nn.L1Loss(), (x, targets)).check_derivatives()


def test_a_point_is_checked_once_and_its_blocks_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = _derivative_check.check_derivatives
    counted = lambda *given: calls.append(1) or original(*given)
    monkeypatch.setattr(_derivative_check, "check_derivatives", counted)
    risk = risk_of(Net(torch.tanh))
    for _ in range(2):
        ls.curvature.eigenpairs(risk.hessian(), 1)
        ls.curvature.eigenpairs(risk.hessian(at="last"), 1)
    assert len(calls) == 1
    ls.curvature.eigenpairs(risk.hessian({name: part + 1 for name, part in risk.parameters.items()}), 1)
    assert len(calls) == 2


def test_nothing_of_the_users_changes() -> None:
    model = nn.Sequential(Net(torch.relu), nn.BatchNorm1d(2)).double().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    risk_of(model).check_derivatives()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
