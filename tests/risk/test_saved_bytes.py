"""Graphs that hooks on dense tensors do not measure: those of models with torch.func inside, and of sparse tensors."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import liftscape as ls
from liftscape.derivatives import unflatten
from liftscape.derivatives._hessian import gradient_graph
from liftscape.memory._saved_tensors import _counted, _walked
from liftscape.outcomes import DataError

F64 = torch.float64
T = torch.rand(20, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
X = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
# A ring: each of twelve nodes hears its two neighbours.
RING = torch.eye(12, dtype=F64).roll(1, 0) + torch.eye(12, dtype=F64).roll(-1, 0)


def residual(output: Tensor, _: Tensor) -> Tensor:
    return (output**2).mean()


class Slope(nn.Module):
    """The residual u' + u of a physics-informed network, by torch.func."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).to(F64)

    def forward(self, t: Tensor) -> Tensor:
        return vmap(grad(lambda z: self.net(z[None])[0]))(t[:, 0]) + self.net(t)[:, 0]


class OnGraph(nn.Module):
    """Features mixed along the edges of a graph whose adjacency is a sparse buffer."""

    def __init__(self, adjacency: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(5, 3, dtype=F64)
        self.register_buffer("adjacency", adjacency)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.adjacency, torch.tanh(self.map(x)))


class AlongEdges(nn.Module):
    """The same with the adjacency as an input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(5, 3, dtype=F64)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return adjacency @ torch.tanh(self.map(x))


class Tokens(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.map = nn.Embedding(7, 4, sparse=sparse, dtype=F64), nn.Linear(4, 3, dtype=F64)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.map(torch.tanh(self.embed(tokens)))


def dense_hessian(risk: ls.EmpiricalRisk) -> Tensor:
    """By torch's own double backward of the whole risk."""
    like = risk.parameters

    def value(theta: Tensor) -> Tensor:
        ((inputs, targets),) = risk.batches
        args = inputs if isinstance(inputs, tuple) else (inputs,)
        return risk.loss(functional_call(risk.model, unflatten(theta, like), args), targets)

    return torch.autograd.functional.hessian(value, risk.flatten())


@pytest.mark.parametrize("budget", [None, 3000])
def test_a_model_that_differentiates_by_torch_func_has_a_hessian(budget: int | None) -> None:
    risk = ls.EmpiricalRisk(Slope(), residual, (T, T))
    assert (risk.plan(risk.point(), budget).chunk is None) == (budget is None)
    H = risk.hessian(memory_budget=budget)
    torch.testing.assert_close(H.to_dense(), dense_hessian(risk), rtol=1e-11, atol=1e-13)
    G = ls.curvature.gauss_newton(risk, memory_budget=budget).to_dense()
    J = torch.autograd.functional.jacobian(
        lambda theta: functional_call(risk.model, unflatten(theta, risk.parameters), (T,)), risk.flatten()
    )
    torch.testing.assert_close(G, 2 / len(T) * J.T @ J, rtol=1e-11, atol=1e-13)


def test_it_has_a_plateau_reading_too() -> None:
    assert ls.curvature.plateau_reading(ls.EmpiricalRisk(Slope(), residual, (T, T))).products > 0


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


class Cubes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Cube.apply(x)  # type: ignore[return-value]


@pytest.mark.parametrize("middle", [nn.Tanh(), nn.GELU(), nn.LayerNorm(6), Cubes(), nn.Softmax(dim=1)])
@pytest.mark.parametrize("n", [2, 12])
def test_nodes_hold_what_was_saved(middle: nn.Module, n: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), middle, nn.Linear(6, 3)).to(F64)
    risk = ls.EmpiricalRisk(model, "mse", (X[:n], Y[:n]))
    point = risk.point()
    arguments = (point, next(iter(risk.batches)), partial(gradient_graph, point), set[int]())
    counted, walked = _counted(*arguments), _walked(*arguments)
    assert walked[1] == counted[1] > 0
    # Some of what was saved on the way is dropped again by nodes that lead to no second derivative; a user's function
    # wraps one number past the hooks.
    assert 0.9 * counted[0] <= walked[0] <= counted[0] + 8


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_adjacency_is_a_buffer_like_others(layout: str) -> None:
    adjacency = RING.to_sparse() if layout == "coo" else RING.to_sparse_csr()
    risk = ls.EmpiricalRisk(OnGraph(adjacency), "mse", (X, Y))
    torch.testing.assert_close(
        risk.hessian().to_dense(), dense_hessian(ls.EmpiricalRisk(OnGraph(RING), "mse", (X, Y))), rtol=1e-11, atol=1e-13
    )


def test_a_sparse_adjacency_is_an_input_like_others() -> None:
    risk = ls.EmpiricalRisk(AlongEdges(), "mse", ((X, RING.to_sparse()), Y))
    dense = ls.EmpiricalRisk(AlongEdges(), "mse", ((X, RING), Y))
    torch.testing.assert_close(risk.hessian().to_dense(), dense_hessian(dense), rtol=1e-11, atol=1e-13)
    with pytest.raises(DataError, match="inputs of batch 0 hold nan at index"):
        ls.EmpiricalRisk(AlongEdges(), "mse", ((X, (RING * torch.nan).to_sparse()), Y))


def test_an_embedding_with_sparse_gradients_is_a_dense_one() -> None:
    tokens = torch.arange(12) % 7
    risk, dense = (ls.EmpiricalRisk(Tokens(sparse=sparse), "mse", (tokens, Y)) for sparse in (True, False))
    assert torch.equal(risk.gradient(), dense.gradient())
    torch.testing.assert_close(risk.hessian().to_dense(), dense.hessian().to_dense(), rtol=1e-13, atol=1e-15)
