"""Graphs of forward passes in files: what was traced comes back, and no file calls what is no operation of torch."""

import json
import operator
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import liftscape as ls
from liftscape.sites import copy_with
from liftscape.storage._edits import apply_edits, find_edits

F64 = torch.float64
X = torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=F64)


class Block(nn.Module):
    """A residual sum, a parameter of its own, calls by function, by method and by operator."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)
        self.scale = nn.Parameter(torch.rand(6) + 1)
        self.register_buffer("shift", torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.last(functional.gelu(self.first(x), approximate="tanh")).mul(self.scale)
        hidden = torch.cat([hidden[:, :2], hidden[:, 2:]], dim=-1) + self.shift
        return (x + hidden.reshape(x.shape[0], -1)).clamp(max=float("inf"))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Block(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.inner(x)), "sum": torch.relu(x.sum(dim=1))}


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), Block(), nn.BatchNorm1d(6), nn.Linear(6, 2))


def traced(model: nn.Module, at: str) -> nn.Module:
    """Return a copy with a module traced, one of its maps narrower and a new one put beside."""
    graph = fx.symbolic_trace(copy_with(model, {}).get_submodule(at), concrete_args=None)
    place = next(iter(graph.graph.nodes)).next
    graph.add_module("added", nn.Sequential(nn.Linear(6, 6, dtype=F64), nn.ELU()))
    with graph.graph.inserting_before(place):
        call = graph.graph.call_module("added", (place.prev,))
    place.prev.prev.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    path = "inner." if "inner" in dict(graph.named_children()) else ""
    graph = copy_with(graph, {f"{path}first": nn.Linear(6, 3, dtype=F64), f"{path}last": nn.Linear(3, 6, dtype=F64)})
    graph.recompile()
    return copy_with(model, {at: graph}) if at else graph


@pytest.mark.parametrize(("make", "at"), [(build, "1"), (Outer, "")])
def test_a_traced_network_comes_back_without_inputs(make: type, at: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = make().to(F64).eval()
    model = traced(base, at)
    path = ls.save(model, tmp_path / "net.safetensors", base=base)
    torch.manual_seed(5)
    again = ls.load(make, path).eval()
    seen, expected = again(X), model(X)
    pairs = [(seen, expected)] if at else [(seen[key], expected[key]) for key in ("logits", "sum")]
    assert all(torch.equal(one, other) for one, other in pairs)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert {name for name, _ in again.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert isinstance(again.get_submodule(at), fx.GraphModule)


def test_a_graph_of_anything_but_torch_is_refused() -> None:
    base = Block().to(F64)
    for function in (print, torch.load, torch.from_file, torch.ops.aten.from_file.default, operator.methodcaller):
        graph = fx.symbolic_trace(base)
        first = next(iter(graph.graph.nodes))
        with graph.graph.inserting_after(first):
            graph.graph.call_function(function, ("harmed",))
        with pytest.raises(ls.LiftscapeError, match="in its forward, which a recipe cannot hold"):
            find_edits(base, graph)


@pytest.mark.parametrize(
    ("op", "target", "args", "kwargs", "sentence"),
    [
        ("call_function", "torch.load", ["x"], [], "calls call_function 'torch.load'"),
        ("call_function", "torch.hub.load", ["x"], [], "calls call_function 'torch.hub.load'"),
        ("call_function", "builtins.eval", ["x"], [], "calls call_function 'builtins.eval'"),
        ("call_function", "operator.methodcaller", ["x"], [], "calls call_function 'operator.methodcaller'"),
        ("call_function", "aten.from_file.default", ["x"], [], "calls call_function 'aten.from_file.default'"),
        ("call_function", "getattr", [{"call": "x"}, "__class__"], [], "calls call_function 'getattr'"),
        ("call_method", "__reduce__", [{"call": "x"}], [], "calls call_method '__reduce__'"),
        ("call_method", "tofile", [{"call": "x"}], [], "calls call_method 'tofile'"),
        ("call_module", "first(x) or print", [{"call": "x"}], [], r"calls call_module 'first\(x\) or print'"),
        ("call_module", "missing", [{"call": "x"}], [], "missing"),
        ("get_attr", 'first.weight", print("harmed")', [], [], "calls get_attr 'first.weight"),
        ("placeholder", "x, y=print", [], [], "calls placeholder 'x, y=print'"),
        ("call_method", "abs", [{"call": "x"}], [["a=print()", 1]], "no names of arguments"),
        ("exec", "x", [], [], "calls exec 'x'"),
        ("call_method", "abs", [{"call": "nobody"}], [], "nobody"),
    ],
)
def test_a_file_that_would_call_something_else_is_refused(
    op: str, target: str, args: list, kwargs: list, sentence: str
) -> None:
    base = Block().to(F64)
    edits = json.loads(json.dumps(find_edits(base, fx.symbolic_trace(base))))
    assert torch.equal(apply_edits(base, edits, torch.device("cpu"), F64)(X), base(X))
    calls = edits[0]["block"]["calls"]
    calls[1] = [calls[1][0], op, target, {"tuple": args}, {"dict": kwargs}]
    with pytest.raises(ls.LiftscapeError, match=sentence):
        apply_edits(base, edits, torch.device("cpu"), F64)


class Sizes(nn.Module):
    """Reads sizes as attention written by hand does: heads by view, a table cut to the length, rows by size(0)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(10, 6))
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        samples, length, width = x.shape
        heads = (x + self.table[:length]).view(samples, length, 2, width // 2).transpose(1, 2)
        mixed = torch.softmax(heads @ heads.transpose(-1, -2), dim=-1) @ heads
        rows = mixed.transpose(1, 2).reshape(samples * length, width)
        return self.last(functional.gelu(self.first(rows))).view(x.size(0), -1, width)


def test_a_fold_of_a_network_that_reads_sizes_comes_back_at_other_sizes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Sizes().to(F64), torch.randn(5, 3, 6, dtype=F64)
    folded = ls.fold(model, x, at="gelu", method="least-squares")
    path = ls.save(folded, tmp_path / "small.safetensors", base=model)
    other = torch.randn(7, 4, 6, dtype=F64)
    assert torch.equal(ls.load(lambda: model, path)(other), folded.model(other))
