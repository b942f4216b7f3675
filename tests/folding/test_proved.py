"""Bounds hold for every input of a box, and what is proved to be linear there survives every attack."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import interval_bounds, search_difference
from liftscape.outcomes import SiteError

F64 = torch.float64
ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(), nn.Tanh(), nn.Hardtanh(), nn.Sigmoid(), nn.PReLU()]


def chain(kind: str, activation: nn.Module, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(seed)
    other = copy.deepcopy(activation)
    if kind == "vectors":
        layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), activation, nn.Linear(6, 5), other, nn.Linear(5, 2)]
        shape: tuple[int, ...] = (4,)
    else:
        inner = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), activation, nn.MaxPool2d(2))
        layers = [inner, nn.Conv2d(3, 4, 2, 2), nn.BatchNorm2d(4), other, nn.Flatten(), nn.Linear(4, 2)]
        shape = (2, 5, 5)
    model = nn.Sequential(*layers).to(F64)
    model(torch.randn(50, *shape, dtype=F64))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.weight.copy_(torch.randn_like(module.weight))
    return model.eval(), shape


@given(
    kind=st.sampled_from(["vectors", "pictures"]),
    activation=st.sampled_from(ACTIVATIONS),
    radius=st.sampled_from([0.0, 1e-6, 0.3, 5.0]),
    seed=st.integers(0, 10**6),
)
def test_no_input_of_the_box_leaves_the_bounds(kind: str, activation: nn.Module, radius: float, seed: int) -> None:
    model, shape = chain(kind, copy.deepcopy(activation), seed)
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(*shape, generator=generator, dtype=F64)
    low, high = centre - radius, centre + radius * torch.rand(*shape, generator=generator, dtype=F64)
    bounds = interval_bounds(model, low, high)
    inside = torch.rand(200, *shape, generator=generator, dtype=F64)
    # Corners as well as the inside.
    inside[100:] = inside[100:].round()
    points = low + (high - low) * inside
    seen: dict[str, list[Tensor]] = {name: [] for name in bounds}
    for name in bounds:
        model.get_submodule(name).register_forward_pre_hook(lambda _m, args, name=name: seen[name].append(args[0]))
    with torch.no_grad():
        model(points)
    assert len(bounds) == 2
    for name, (least, most) in bounds.items():
        t = seen[name][0]
        t = t.movedim(1, -1).reshape(-1, t.shape[1])
        assert bool((t.amin(dim=0) >= least).all())
        assert bool((t.amax(dim=0) <= most).all())


def test_bounds_of_one_map_are_reached_at_corners() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU()).to(F64)
    low, high = torch.tensor([-1.0, 0.0, 2.0], dtype=F64), torch.tensor([1.0, 0.5, 2.0], dtype=F64)
    corners = torch.cartesian_prod(*[torch.stack(pair) for pair in zip(low, high, strict=True)])
    with torch.no_grad():
        t = model[0](corners)
    least, most = interval_bounds(model, low, high)["1"]
    torch.testing.assert_close(least, t.amin(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(most, t.amax(dim=0), rtol=1e-12, atol=1e-12)


def test_lifted_layers_are_proved_linear_around_digits_and_no_attack_finds_a_difference() -> None:
    x, _ = ls.data.digits()
    x = x[:300]
    model = ls.nets.mlp((64, 16, 10), "tanh")
    lifted = ls.lift(model, x, "0", width=[20, 18], activation="relu").model
    proved = 0
    for digit in x[:12]:
        box = (digit - 0.01, digit + 0.01)
        folded = ls.fold(lifted, method=ls.Proved(box))
        proved += len(folded.removed)
        points = torch.stack([*box, digit])
        found = search_difference(lifted, folded.model, points, steps=40)
        assert found.gap < 1e-11
    assert proved == 24


def test_a_box_that_is_too_large_proves_nothing_and_a_network_that_is_no_chain_is_refused() -> None:
    model = ls.nets.mlp((3, 4, 2), "relu")
    wide = torch.full((3,), 1e3, dtype=F64)
    row = ls.fold(model, method=ls.Proved((-wide, wide))).report[0]
    assert not row.folded
    assert row.linear == 0
    for wrong in ((wide, -wide), (wide, wide[:2]), (wide * float("inf"), wide * float("inf"))):
        with pytest.raises(ls.LiftscapeError, match="a box needs finite lower ends"):
            interval_bounds(model, *wrong)
    with pytest.raises(SiteError, match="'1' is a GELU, through which no bounds"):
        interval_bounds(nn.Sequential(nn.Linear(3, 2), nn.GELU()).to(F64), -wide, wide)
    with pytest.raises(SiteError, match="BatchNorm in eval mode"):
        interval_bounds(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(F64), -wide, wide)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("proved", r"needs a box of inputs; give method=Proved\(box=\(low, high\)\)"),
        ("exactly", "method must be 'exact', 'least-squares', Exact.*'exactly' was given"),
        (None, "method must be .*None was given"),
    ],
)
def test_a_method_that_is_unknown_or_lacks_its_box_is_refused(method: Any, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.fold(ls.nets.mlp((3, 4, 2), "relu"), torch.ones(1, 3, dtype=F64), method=method)


def test_a_proved_fold_reads_no_data_and_says_so() -> None:
    ends = torch.ones(3, dtype=F64)
    with pytest.raises(ls.LiftscapeError, match="holds on its box and reads no data; leave inputs out"):
        ls.fold(ls.nets.mlp((3, 4, 2), "relu"), ends[None], method=ls.Proved((-ends, ends)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bounds", ["box", None])
def test_bounds_of_another_kind_are_refused(bounds: Any) -> None:
    with pytest.raises(ls.LiftscapeError, match="bounds must be 'linear' or 'interval'"):
        ls.Proved((torch.zeros(3), torch.ones(3)), bounds=bounds)


class Squared(nn.Linear):
    """A Linear by class that is none by what it computes."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).square()


def test_no_bounds_are_carried_through_what_only_looks_like_a_map_it_knows() -> None:
    low, high = torch.full((3,), 0.9, dtype=F64), torch.full((3,), 1.1, dtype=F64)
    # With a low threshold Softplus falls by 0.31 where it turns linear.
    falling = nn.Softplus(threshold=1.0)
    assert float(falling(high[:1])) < float(falling(low[:1]))
    for module in (falling, Squared(3, 3), nn.ELU(-1.0), nn.LeakyReLU(-0.5)):
        with pytest.raises(SiteError, match="through which no bounds are carried"):
            interval_bounds(nn.Sequential(module, nn.ReLU()).to(F64), low, high)


def test_a_module_that_stands_in_two_places_counts_in_both() -> None:
    twice = nn.Linear(2, 2).to(F64)
    model = nn.Sequential(twice, twice, nn.ReLU())
    with torch.no_grad():
        twice.weight.copy_(2 * torch.eye(2))
        twice.bias.zero_()
    low, high = interval_bounds(model, -torch.ones(2, dtype=F64), torch.ones(2, dtype=F64))["2"]
    torch.testing.assert_close(high, torch.full((2,), 4.0, dtype=F64))
    torch.testing.assert_close(low, torch.full((2,), -4.0, dtype=F64))


def test_a_proved_fold_of_a_float32_network_takes_a_float64_box_and_names_a_wrong_one() -> None:
    model = ls.nets.mlp((3, 4, 2), "relu", dtype=torch.float32)
    with torch.no_grad():
        model[0].bias.fill_(50.0)
    ones = torch.ones(3, dtype=F64)
    assert ls.fold(model, method=ls.Proved((-ones, ones))).removed == ("1",)
    with pytest.raises(ls.LiftscapeError, match="a box needs finite lower ends"):
        ls.fold(model, method=ls.Proved((ones, ones[:2])))


@pytest.mark.parametrize("bounds", ["linear", "interval"])
@pytest.mark.parametrize("place", ["", "0", "0.0", "1"])
def test_what_hooks_may_change_is_not_bounded(place: str, bounds: str) -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 2)).double()
    net[0][0].bias.data += 9
    box = (-torch.ones(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    assert ls.fold(net, method=ls.Proved(box, bounds=bounds)).removed == ("0.1",)
    net.get_submodule(place).register_forward_pre_hook(lambda _module, args: (args[0] * 50,))
    with pytest.raises(SiteError, match=f"{repr(place) if place else 'the network'} has forward hooks"):
        ls.fold(net, method=ls.Proved(box, bounds=bounds))
