"""Every embedding verb on planted critical points of odd modules: outputs and criticality are kept, or it is refused.

The oracle is plain torch: outputs of both networks, and the gradient of a residual that is orthogonal to all that the
smaller network's parameters can do.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.outcomes import SiteError
from tests.attack.odd_modules import CONVOLUTIONS, ODD, PLAIN, Odd, images, vectors

F64 = torch.float64
_QUICK = 4


def first_tensor(returned: Any) -> Tensor:
    """The tensor that a loss would read."""
    while not isinstance(returned, Tensor):
        returned = next(iter(returned.values() if isinstance(returned, dict) else returned))
    return returned


def plain_gradient(model: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """∇⟨residual, outputs⟩ by plain autograd."""
    leaves = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad((first_tensor(model(x)) * residual).sum(), leaves, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, parts, strict=True)]
    return torch.cat([g.reshape(-1) for g in flat])


def planted(model: nn.Module, x: Tensor) -> tuple[Tensor, float]:
    """A residual of unit length with Jᵀr = 0, and the largest singular value of J."""
    out = first_tensor(model(x))
    eye = torch.eye(out.numel(), dtype=F64).reshape(-1, *out.shape)
    J = torch.stack([plain_gradient(model, x, row) for row in eye])
    U, s, _ = torch.linalg.svd(J, full_matrices=True)
    rank = int((s > 1e-9 * s[0]).sum())
    assert rank < len(J), "too few outputs to plant a critical point"
    free = U[:, rank:]
    r = free @ torch.randn(free.shape[1], generator=torch.Generator().manual_seed(2), dtype=F64)
    return (r / r.norm()).reshape(out.shape), float(s[0])


def leaves_of(returned: Any) -> list[Any]:
    """All that a network returns."""
    if isinstance(returned, (dict, tuple, list)):
        parts = returned.values() if isinstance(returned, dict) else returned
        return [leaf for part in parts for leaf in leaves_of(part)]
    return [returned]


def same(before: Any, after: Any, tolerance: float) -> bool:
    """Whether all that is returned is the same."""
    pairs = list(zip(leaves_of(before), leaves_of(after), strict=True))
    return all(
        (a.shape == b.shape and float((a - b).detach().abs().max()) <= tolerance * (1 + float(a.detach().abs().max())))
        if isinstance(a, Tensor)
        else a == b
        for a, b in pairs
    )


def tripled(width: int) -> ls.NeuronMap:
    """Three copies of the first neuron and a null neuron."""
    return ls.NeuronMap((*range(width), 0, 0, None), (1.0, *[1.0] * (width - 1), 1.0, -1.0, 0.0))


def verbs(model: nn.Module, at: str, x: Tensor) -> dict[str, Callable[[], ls.Embedding]]:
    """All verbs at one map, those in width with and without inputs."""
    width = len(model.get_submodule(at).weight)
    found: dict[str, Callable[[], ls.Embedding]] = {}
    for word, inputs in (("", x), (", no inputs", None)):
        found |= {
            f"split{word}": lambda inputs=inputs: ls.split(model, inputs, at, neuron=1, share=0.3),
            f"split outside{word}": lambda inputs=inputs: ls.split(model, inputs, at, neuron=0, share=-0.5),
            f"null{word}": lambda inputs=inputs: ls.add_null_neuron(
                model, inputs, at, generator=torch.Generator().manual_seed(3)
            ),
            f"embed{word}": lambda inputs=inputs: ls.embed(model, layers={at: tripled(width)}, inputs=inputs),
        }
    for activation in ("relu", "elu", "gelu"):
        found[f"lift {activation}"] = lambda activation=activation: ls.lift(model, x, at, activation=activation)
    found["lift twice"] = lambda: ls.lift(model, x, at, width=[9, 9], activation="relu")
    return found


def tried(verb: Callable[[], ls.Embedding]) -> "nn.Module | str":
    """The larger network, or the sentence that refuses it."""
    try:
        return verb().model
    except ls.LiftscapeError as error:
        return str(error)


def attack(model: nn.Module, x: Tensor, must: set[tuple[str, str]]) -> dict[str, int]:
    """Try every verb at every map; return how many were kept and refused."""
    residual, scale = planted(model, x)
    before, state = model(x), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    counts = {"kept": 0, "refused": 0}
    maps = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    for at in maps:
        for name, verb in verbs(model, at, x).items():
            torch.manual_seed(5)
            generators = torch.get_rng_state()
            larger = tried(verb)
            assert torch.equal(torch.get_rng_state(), generators), f"{name} at {at} draws"
            if isinstance(larger, str):
                assert larger.endswith("."), larger
                assert "\n" not in larger, larger
                assert (at, name) not in must, f"{name} at {at}: {larger}"
                counts["refused"] += 1
                continue
            tail = 1e-9 if name == "lift gelu" else 1e-11
            # A longer chain of factors rounds, and has derivatives, as large as its factors.
            size = max(float(p.detach().abs().max()) for p in larger.parameters())
            assert same(before, larger(x), tail + 1e-14 * size), f"{name} at {at} changes outputs"
            g = plain_gradient(larger, x, residual)
            bound = 100 * tail * (1 + scale) * (1 + size)
            assert float(g.norm()) <= bound, f"{name} at {at}: gradient {float(g.norm()):.1e}"
            counts["kept"] += 1
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if "running" not in name)
    return counts


def cases(table: dict[str, Callable[[], nn.Module]], quick: int) -> list[Any]:
    """The first entries are quick, the others part of the long suite."""
    return [
        pytest.param(make, id=name, marks=() if index < quick else (pytest.mark.long,))
        for index, (name, make) in enumerate(table.items())
    ]


_DEEP = ("lift relu", "lift elu", "lift gelu", "lift twice")
_WIDE = ("split", "split outside", "null", "embed")


@pytest.mark.parametrize("make", cases(PLAIN, 1))
def test_plain_networks_are_embedded(make: Callable[[], nn.Module], request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    wide = {("a", name) for name in _WIDE}
    functional = "functional" in request.node.callspec.id
    deep = set() if functional else {(at, name) for at in ("a", "o") for name in _DEEP}
    counts = attack(make(), vectors(), wide | deep)
    assert counts["kept"] >= (4 if functional else 12)


@pytest.mark.parametrize("make", cases(ODD, _QUICK))
def test_odd_networks_are_embedded_truly_or_refused(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    attack(make(), vectors(), set())


@pytest.mark.parametrize("make", cases(CONVOLUTIONS, 1))
def test_convolutions(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    attack(make(), images(), set())


def test_the_table_is_long_enough() -> None:
    assert len(PLAIN) + len(ODD) + len(CONVOLUTIONS) >= 80


READS = {
    "size": lambda s, x: s.o(torch.tanh(s.a(x))) / s.a(x).shape[-1],
    "weight": lambda s, x: s.o(torch.tanh(s.a(x))) / s.a.weight.shape[0],
    "parameters": lambda s, x: s.o(torch.tanh(s.a(x))) + sum(p.sum() for p in s.parameters()),
}


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("given", [True, False])
def test_what_reads_more_of_a_layer_is_refused(reads: str, given: bool) -> None:
    torch.manual_seed(0)
    model, x = Odd(READS[reads]), vectors() if given else None
    for verb in (lambda: ls.split(model, x, "a", neuron=0, share=0.3), lambda: ls.add_null_neuron(model, x, "a")):
        with pytest.raises(SiteError):
            verb()


def test_a_null_neuron_in_front_of_padding_is_refused_and_without_padding_it_is_not() -> None:
    torch.manual_seed(0)
    with pytest.raises(SiteError, match="padding"):
        ls.add_null_neuron(CONVOLUTIONS["zero padding"](), images(), "0")
    assert ls.add_null_neuron(CONVOLUTIONS["unpadded"](), images(), "0").model[0].out_channels == 4


def test_without_inputs_a_network_that_cannot_be_run_asks_for_them() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    with pytest.raises(SiteError, match="pass inputs="):
        ls.split(model, None, "1", neuron=0)
    assert ls.split(model, torch.tensor([[0, 1], [2, 3]]), "1", neuron=0).model[1].out_features == 5


@pytest.mark.parametrize("scale", [1e-8, pytest.param(1e8, marks=pytest.mark.long)])
def test_scales_of_features_are_no_reason_to_refuse(scale: float) -> None:
    torch.manual_seed(0)
    model, x = PLAIN["plain"](), vectors() * scale
    with torch.no_grad():
        model.a.weight /= scale
    attack(model, x, {(at, name) for at in ("a", "o") for name in _DEEP} | {("a", name) for name in _WIDE})


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
def test_an_approximate_lift_is_off_by_the_square_of_epsilon(epsilon: float) -> None:
    torch.manual_seed(0)
    model, x = PLAIN["plain"](), vectors()
    gaps = [
        float((ls.approximate_lift(model, x, "o", epsilon=each).model(x) - model(x)).detach().abs().max())
        for each in (epsilon, epsilon / 10)
    ]
    assert 0 < gaps[0] < 100 * epsilon**2
    assert 50 < gaps[0] / gaps[1] < 200


@pytest.mark.parametrize("name", ["last axis of h", "sum over parameters", "rows of the weight", "gradient only"])
def test_an_approximate_lift_of_what_is_read_elsewhere_is_refused(name: str) -> None:
    torch.manual_seed(0)
    model, x = ODD[name](), vectors()
    for at in ("a", "o"):
        try:
            larger = ls.approximate_lift(model, x, at, epsilon=1e-4).model
        except ls.LiftscapeError:
            continue
        assert float((larger(x) - model(x)).detach().abs().max()) < 1e-5
