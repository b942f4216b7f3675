"""Functions with a first derivative only are named, also where torch takes the second one for zero without a word."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

import liftscape as ls
from liftscape.memory._saved_tensors import saved_bytes

F64 = torch.float64


class Square(torch.autograd.Function):
    """Stops at the first derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        return 2 * cotangent * ctx.saved_tensors[0]


class Cube(torch.autograd.Function):
    """Has all derivatives, but no rule for vectorised passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        return 3 * cotangent * ctx.saved_tensors[0] ** 2


class Apply(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


class Inside(nn.Module):
    """Differentiates a network with respect to its input."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        x.requires_grad_()
        return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]


def net(middle: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), middle, nn.Linear(4, 3)).to(F64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
    return model


def risk_of(model: nn.Module, loss: Any = "mse") -> ls.EmpiricalRisk:
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    return ls.EmpiricalRisk(model, loss, (x, torch.ones(12, 3, dtype=F64)))


@pytest.mark.parametrize(
    ("middle", "sentence"),
    [
        (nn.Hardsigmoid(), r"without a second derivative in torch, hardsigmoid in module '1' \(Hardsigmoid\)"),
        (Apply(Square), r"without a second derivative in torch, Square in module '1' \(Apply\)"),
    ],
)
@pytest.mark.parametrize("columns", [1, 5])
def test_the_function_and_its_module_are_named(middle: nn.Module, sentence: str, columns: int) -> None:
    risk = risk_of(net(middle))
    block = torch.ones(risk.size, columns, dtype=F64)
    assert bool(torch.isfinite(risk.gradient()).all())
    for product in (lambda: risk.hessian() @ block, lambda: ls.curvature.gauss_newton(risk) @ block):
        with pytest.raises(ls.LiftscapeError, match=sentence) as raised:
            product()
        assert "\n" not in str(raised.value)
    assert not any(module._forward_hooks for module in risk.model.modules())


def test_a_function_in_the_loss_is_named() -> None:
    loss = lambda output, target: Square.apply(output - target).mean()
    with pytest.raises(ls.LiftscapeError, match="Square in the loss"):
        risk_of(net(nn.Tanh()), loss).hessian()


@pytest.mark.parametrize("middle", [nn.Hardsigmoid(), Apply(Square)])
def test_a_gradient_of_a_model_that_differentiates_inside(middle: nn.Module) -> None:
    with pytest.raises(ls.LiftscapeError, match=r"without a second derivative in torch, (hardsigmoid|Square)"):
        risk_of(Inside(net(middle))).gradient()


def test_a_function_that_cannot_be_vectorised_is_run_column_by_column() -> None:
    risk = risk_of(net(Apply(Cube)))
    plain = nn.Module()
    plain.forward = lambda x: x**3  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        H = risk.hessian().to_dense()
    torch.testing.assert_close(H, risk_of(net(plain)).hessian().to_dense(), rtol=1e-11, atol=1e-12)


def test_errors_of_the_users_own_pass_through() -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        if output.requires_grad and output.grad_fn is not None:
            raise RuntimeError("the user's own")
        return ((output - target) ** 2).mean()

    risk = risk_of(net(nn.Tanh()), loss)
    with pytest.raises(RuntimeError, match="the user's own"):
        risk.gradient()
    with pytest.raises(RuntimeError, match="the user's own"):
        risk.hessian()


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > -1e9, lambda a: a.tanh(), lambda a: a.sin(), (x,))


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        count = torch.tensor(0)
        return while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a.tanh()), (count, x))[1]  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("middle", "name"), [(Branch(), "cond"), (Loop(), "while_loop")])
def test_control_flow_whose_second_derivative_is_wrong_is_named(middle: nn.Module, name: str) -> None:
    risk = risk_of(net(middle))
    sentence = rf"uses torch's {name} in module '1' \({type(middle).__name__}\), whose second derivative"
    for derivative in (ls.EmpiricalRisk.gradient, ls.EmpiricalRisk.hessian, ls.curvature.gauss_newton):
        with pytest.raises(ls.LiftscapeError, match=sentence):
            derivative(risk)


def test_only_the_refusal_of_hooks_leads_to_another_way_of_counting() -> None:
    calls: list[Tensor] = []

    def build(value: Tensor) -> Any:
        calls.append(value)
        raise RuntimeError("what tells that the graph is wrong")

    risk = risk_of(net(nn.Tanh()))
    with pytest.raises(RuntimeError, match="what tells"):
        saved_bytes(risk.point(), next(iter(risk.batches)), build)
    assert len(calls) == 1
