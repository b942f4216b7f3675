"""What products hold in memory: graphs kept or built anew, samples in pieces, and budgets that hold nothing."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64
N = 40


def make(*middle: nn.Module) -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), *middle, nn.Tanh(), nn.Linear(8, 2)).to(F64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
    return model


def risk_of(model: nn.Module, loss: Any = "mse", n: int = N) -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(n, width, generator=generator, dtype=F64) for width in (3, 2))
    return ls.EmpiricalRisk(model, loss, (x, y))


def vector(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=F64)


def saved_bytes(H: Any) -> int:
    """All storages that the graph of the gradient holds, by torch's own hooks."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        graphs = list(H.graphs())
    assert graphs
    return sum(sizes.values())


@pytest.mark.parametrize("budget", [None, 2**30, 8000, 4000, 2000])
def test_kept_rebuilt_and_chunked_products_agree(budget: int | None) -> None:
    risk = risk_of(make())
    H, v = risk.hessian(memory_budget=budget), vector(risk.size)
    expected = torch.autograd.functional.hvp(
        lambda theta: risk.batch_value(risk.unflatten(theta), next(iter(risk.batches))), risk.flatten(), v
    )[1]
    for _ in range(3):
        torch.testing.assert_close(H @ v, expected, rtol=1e-12, atol=1e-14)
    assert (H._kept is not None) == (budget is None or budget > 8000)


@pytest.mark.parametrize("budget", [None, 8000, 2000])
def test_value_and_gradient_off_the_graphs_are_those_of_the_risk(budget: int | None) -> None:
    model = make()
    model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    model[0].bias.requires_grad_(False)
    risk = risk_of(model)
    H = risk.hessian(memory_budget=budget)
    value, gradient = H.value_and_gradient()
    torch.testing.assert_close(value, risk.value(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, risk.gradient(), rtol=1e-12, atol=1e-14)
    v = vector(risk.size)
    torch.testing.assert_close(H @ v, risk.hessian() @ v, rtol=1e-10, atol=1e-12)


def test_a_smaller_budget_takes_smaller_pieces() -> None:
    risk = risk_of(make())
    point = risk.point()
    fixed = risk.plan(point)
    chunks = [risk.plan(point, budget).chunk for budget in (2**20, 8000, 4000, 2000)]
    assert fixed.keep
    assert chunks[0] is None
    assert all(isinstance(chunk, int) for chunk in chunks[1:])
    assert N > chunks[1] > chunks[2] > chunks[3] >= 1
    for budget, chunk in zip((8000, 4000, 2000), chunks[1:], strict=True):
        pieces = [batch[0].shape[0] for batch, _ in point.chunks(chunk)]
        assert sum(pieces) == N
        assert max(pieces) <= chunk
        assert saved_bytes(risk_of(make(), n=max(pieces)).hessian()) < budget


def test_the_estimate_is_what_the_whole_graph_saves() -> None:
    risk = risk_of(make(nn.LayerNorm(8)))
    cost = risk._costs if risk.plan(risk.point()) and risk._costs else {}
    (estimate,) = cost.values()
    own = sum(tensor.untyped_storage().nbytes() for tensor in risk.parameters.values())
    data = sum(tensor.untyped_storage().nbytes() for tensor in next(iter(risk.batches)))
    measured = saved_bytes(risk.hessian())
    assert measured - own - data <= estimate.saved(N) <= measured


def test_the_operator_stays_at_its_point_whatever_becomes_of_the_model() -> None:
    model = make(nn.BatchNorm1d(8)).eval()
    model[0].bias.requires_grad_(False)
    risk = risk_of(model)
    v = vector(risk.size)
    kept, rebuilt = risk.hessian(), risk.hessian(memory_budget=9000)
    expected = risk.hessian().to_dense() @ v
    _ = kept @ v, kept @ v
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data * 3 if tensor.is_floating_point() else tensor.data
            tensor.mul_(2) if tensor.is_floating_point() else None
    model.train()
    torch.testing.assert_close(kept @ v, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(rebuilt @ v, expected, rtol=1e-12, atol=1e-13)
    assert all(module.training for module in model.modules())
    assert float((risk.hessian() @ v - expected).norm() / expected.norm()) > 0.1


def test_the_graph_goes_with_the_operator() -> None:
    risk = risk_of(make())
    gc.disable()
    try:
        H, v = risk.hessian(), vector(risk.size)
        _ = H @ v
        assert H._kept is None, "one product needs no graph afterwards"
        _ = H @ v
        held = [weakref.ref(H._kept[0])]
        held += [weakref.ref(tensor) for tensor in H._leaves]
        assert all(ref() is not None for ref in held)
        del H
        assert all(ref() is None for ref in held)
    finally:
        gc.enable()


@pytest.mark.parametrize("budget", [100, 900, 1047])
def test_a_budget_that_holds_nothing_says_what_would_fit(budget: int) -> None:
    risk = risk_of(make())
    part = "the vectors" if budget < 2 * 8 * risk.size else "the graph of one sample"
    with pytest.raises(
        ls.LiftscapeError, match=rf"of {budget} bytes cannot hold {part}.* it takes \d+ bytes"
    ) as raised:
        risk.hessian(memory_budget=budget)
    enough = int(str(raised.value).split("it takes ")[1].split(" bytes")[0])
    assert risk.plan(risk.point(), enough).chunk == 1
    _ = risk.hessian(memory_budget=enough) @ vector(risk.size)
    assert "\n" not in str(raised.value)


def worst(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).sum(dim=1).logsumexp(dim=0)


@pytest.mark.parametrize("case", ["BatchNorm", "loss", "perfect fit"])
def test_a_batch_that_cannot_be_split_is_not(case: str) -> None:
    risk = risk_of(make(nn.BatchNorm1d(8)) if case != "loss" else make(), worst if case == "loss" else "mse")
    if case == "perfect fit":
        (x, _), model = next(iter(risk.batches)), risk.model
        risk = ls.EmpiricalRisk(model, "mse", (x, model(x).detach()))
    with pytest.raises(
        ls.LiftscapeError, match=r"a batch of 40 samples, which cannot be split.*at least \d+ bytes"
    ) as e:
        risk.hessian(memory_budget=6000)
    enough = int(str(e.value).split("at least ")[1].split(" bytes")[0])
    v = vector(risk.size)
    assert torch.equal(risk.hessian(memory_budget=enough) @ v, risk.hessian() @ v)


def test_a_perfect_fit_is_split() -> None:
    model = make()
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, model(x).detach()))
    v = vector(risk.size)
    assert risk.plan(risk.point(), 6000).chunk is not None
    torch.testing.assert_close(risk.hessian(memory_budget=6000) @ v, risk.hessian() @ v, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("0", ["0.weight", "0.bias"]),
        ("2.bias", ["2.bias"]),
        (["2", "0.bias"], ["0.bias", "2.weight", "2.bias"]),
    ],
)
def test_chosen_parameters_give_a_block_of_the_whole(only: Any, names: list[str]) -> None:
    risk = risk_of(make())
    index = risk.unflatten(torch.arange(risk.size, dtype=F64))
    rows = torch.cat([index[name].reshape(-1) for name in names]).long()
    block = risk.hessian(at=only)
    assert block.size == len(rows)
    torch.testing.assert_close(block.to_dense(), risk.hessian().to_dense()[rows][:, rows], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ("2.weigth", r"no module or parameter '2.weigth'; did you mean '2.weight'\?"),
        ("1", r"'1' of Sequential has no trainable parameter"),
        ([], r"names none"),
    ],
)
def test_names_that_choose_nothing(only: Any, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        risk_of(make()).hessian(at=only)


def test_kept_graphs_hold_the_gradient_only_once_it_was_asked_for() -> None:
    """A gradient is M entries for each batch, which products do not need."""
    risk = risk_of(make())
    H, v = risk.hessian(), vector(risk.size)
    products = (H @ v, H @ v)
    assert [graph._gradient for graph in H._kept] == [None] * len(H._kept)
    value, gradient = H.value_and_gradient()
    torch.testing.assert_close(value, risk.value(), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, risk.gradient(), rtol=1e-12, atol=1e-15)
    assert torch.equal(H.value_and_gradient()[1], gradient)
    assert torch.equal(H @ v, products[1])
