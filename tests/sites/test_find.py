"""Sites: names, what feeds and follows them, why a map is none, and a model that stays as it was."""

import copy
import random
import re
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import liftscape as ls
from liftscape.sites import iterate_inputs, stream_features, stream_outputs

X = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.branch, self.decode = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.encode(x))
        return self.decode(h + torch.tanh(self.branch(h)))


class Repeated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.GELU())])
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.blocks[0](x)
        return self.out(x)


def by_name(model: nn.Module) -> dict:
    return {site.name: site for site in ls.find_sites(model, X)}


def test_every_affine_map_is_named_with_its_neighbours() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2))
    sites = by_name(model)
    assert list(sites) == ["0", "2.0", "3"]
    assert [site.activation for site in sites.values()] == ["1", "2.1", "output"]
    assert sites["2.0"].feature_source == "1"
    assert (sites["2.0"].in_features, sites["2.0"].out_features) == (4, 4)
    assert all(site.refusal is None for site in sites.values())


def test_functional_activations_branches_and_modules_called_twice() -> None:
    sites = by_name(Branched())
    assert {"encode", "branch", "decode"} <= set(sites)
    assert sites["encode"].refusal is None
    assert sites["never"].refusal if "never" in sites else True
    assert set(by_name(Repeated())) == {"blocks.0.0", "out"}


def spectral(model: nn.Module) -> nn.Module:
    parametrizations.spectral_norm(model[0])
    return model.eval()


def frozen(model: nn.Module) -> nn.Module:
    model[0].bias.requires_grad_(False)
    return model


def tied(model: nn.Module) -> nn.Module:
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("change", "word"), [(spectral, "reparametri"), (frozen, "frozen|requires_grad"), (tied, "tied|shared")]
)
def test_a_map_that_is_no_site_says_why(change, word: str) -> None:
    model = change(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)))
    refusal = by_name(model)["0"].refusal
    assert refusal is not None
    assert re.search(word, refusal)


@pytest.mark.parametrize("inputs", [X, (X, torch.zeros(10)), [(X[:7], torch.zeros(7)), (X[7:], torch.zeros(3))]])
def test_features_and_outputs_are_streamed_batch_by_batch(inputs) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    rows: dict[str, list[Tensor]] = {"in": [], "out": []}
    stream_features(model, ["1"], inputs, lambda _name, h: rows["in"].append(h.clone()))
    stream_outputs(model, ["0"], inputs, lambda _name, h: rows["out"].append(h.clone()))
    with torch.no_grad():
        expected = model[0](X)
    for found in rows.values():
        assert len(found) == len(list(iterate_inputs(inputs)))
        torch.testing.assert_close(torch.cat(found), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_hooks_are_removed_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def fail(_name: str, _h: Tensor) -> None:
        raise ValueError("the receiver's own")

    with pytest.raises(ValueError, match="the receiver's own"):
        stream_features(model, ["2"], X, fail)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_a_module_that_is_never_called_is_named() -> None:
    with pytest.raises(ls.LiftscapeError, match="'never' is never called"):
        stream_features(Branched(), ["never"], X, lambda _name, _h: None)


def test_inputs_without_numbers_are_refused() -> None:
    with pytest.raises(ls.LiftscapeError, match="meta device"):
        ls.find_sites(nn.Sequential(nn.Linear(2, 1)), torch.empty(3, 2, device="meta"))


class OfFours(nn.Module):
    """Takes batches of a multiple of four, and says so as its owner pleases."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % 4:
            raise self.error(f"{len(x)} samples")
        return self.net(x)


@pytest.mark.parametrize("error", [AssertionError, KeyError, AttributeError, ZeroDivisionError, ValueError])
def test_what_takes_no_few_samples_is_read_on_all_whatever_it_raises(error: type[Exception]) -> None:
    model, x = OfFours(error).double(), torch.randn(12, 3, dtype=torch.float64)
    model.net[0].bias.data += 9
    assert ls.EmpiricalRisk(model, "mse", (x, x[:, :2])).hessian().size == model.net[0].weight.numel() + 14
    assert ls.lift(model, x, "net.2").sites[0].margin > 0
    assert ls.fold(model, x).removed == ("net.1",)
    for call in (lambda: ls.find_sites(model, x[:3]), lambda: ls.EmpiricalRisk(model, "mse", (x[:3], x[:3, :2]))):
        with pytest.raises(ls.LiftscapeError, match=r"OfFours raised on inputs of shape \(3, 3\).*3 samples"):
            call()


class Drawing(nn.Module):
    """Now and then puts a sample to zero, by numbers that are not torch's."""

    def __init__(self, draw: Callable[[int], "np.ndarray | Tensor"]) -> None:
        super().__init__()
        self.map, self.draw = nn.Linear(3, 2), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x * torch.as_tensor(self.draw(len(x)) > 0.1).to(x)[:, None])


class DrawingOwn(Drawing):
    """The same by a generator of its own."""

    def __init__(self) -> None:
        super().__init__(lambda n: torch.rand(n, generator=self.source))
        self.source = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drawing(np.random.rand),
        lambda: Drawing(lambda n: np.array([random.random() for _ in range(n)])),
        DrawingOwn,
    ],
)
def test_rare_randomness_of_any_kind_is_found(make: Callable[[], nn.Module]) -> None:
    for seed in range(5):
        np.random.seed(seed)  # ruff: ignore[numpy-legacy-random]
        random.seed(seed)
        with pytest.raises(ls.LiftscapeError, match="two evaluations differ"):
            ls.lift(make(), torch.ones(200, 3), "map")


class Reading(nn.Module):
    """Reads something of its maps beside calling them."""

    def __init__(self, read: Callable[["Reading"], object]) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        self.read(self)
        return self.last(self.act(self.first(x)))


@pytest.mark.parametrize(
    ("attribute", "read"),
    [
        ("weight", lambda net: net.first.weight.dtype),
        ("in_features", lambda net: net.first.in_features),
        ("bias", lambda net: net.first.bias.device),
    ],
)
def test_a_map_of_which_an_attribute_is_read_stays(attribute: str, read: Callable[[Reading], object]) -> None:
    model = Reading(read)
    model.first.bias.data += 9
    refusals = {site.name: site.refusal for site in ls.find_sites(model, X)}
    assert f"reads its {attribute} from outside" in str(refusals["first"])
    assert refusals["last"] is None
    with pytest.raises(ls.LiftscapeError, match=f"no layer can be inserted at 'first'.*reads its {attribute}"):
        ls.lift(model, X, "first")
    assert torch.allclose(ls.lift(model, X, "last").model(X), model(X), atol=1e-5)
    assert f"reads the {attribute} of 'first'" in ls.fold(model, X).report[0].reason
    with pytest.raises(ls.LiftscapeError, match=f"reads the {attribute} of 'first'"):
        ls.fold(model, X, at="act", method="least-squares")
    # A folded map stands in the place of the last one, which keeps all that is read of it.
    twin = Reading(lambda net: read(type("Turned", (), {"first": net.last})))
    twin.first.bias.data += 9
    assert torch.allclose(ls.fold(twin, X).model(X), twin(X), atol=1e-5)


def test_what_is_read_of_all_parameters_is_no_obstacle() -> None:
    model = Reading(lambda net: next(net.parameters()).dtype)
    assert all(site.refusal is None for site in ls.find_sites(model, X))
    assert torch.allclose(ls.lift(model, X, "first").model(X), model(X), atol=1e-5)


def test_a_read_attribute_is_found_where_few_samples_are_refused() -> None:
    model = OfFours(AssertionError)
    model.net.register_forward_pre_hook(lambda net, args: (args[0].to(net[0].weight.dtype),))
    with pytest.raises(ls.LiftscapeError, match=r"'net\.0'.*reads its weight from outside"):
        ls.lift(model, torch.ones(8, 3), "net.0")


def test_what_cannot_be_copied_can_be_read() -> None:
    model = Reading(lambda _net: None)
    model.lock = threading.Lock()
    assert [site.name for site in ls.find_sites(model, X)] == ["first", "last"]
    assert len(ls.layer_linearity(model, X).rows) == 1
