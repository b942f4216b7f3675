"""The exact threshold against dense thresholds, directions against a dense fan of them, rows against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.escaping import best_thresholds
from liftscape.escaping._affine_rows import stream_gradients
from liftscape.escaping._crossings import choose_crossing
from liftscape.escaping._neuron_directions import best_neuron
from liftscape.escaping._refusals import separable_share
from liftscape.linearity import rows_read

F64 = torch.float64


def brute_force(p: Tensor, g: Tensor, thresholds: Tensor, ridge: float = 0.0) -> Tensor:
    """‖Σgφ‖²/(Σφ² + ridge) at each threshold, by its definition."""
    values = []
    for tau in thresholds:
        phi = torch.relu(p - tau)
        squares = float(phi @ phi) + ridge
        values.append(float((phi @ g).norm() ** 2) / squares if squares > 0 else 0.0)
    return torch.tensor(values, dtype=F64)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    outputs=st.integers(1, 4),
    ties=st.booleans(),
    offset=st.sampled_from([0.0, 1e3]),
    ridge=st.sampled_from([0.0, 0.3]),
)
def test_no_threshold_of_a_dense_grid_is_better_and_the_gain_is_that_of_the_definition(
    seed: int, n: int, outputs: int, ties: bool, offset: float, ridge: float
) -> None:
    draws = torch.Generator().manual_seed(seed)
    p = torch.randn(2, n, generator=draws, dtype=F64)
    p = (p.round() if ties else p) + offset
    g = torch.randn(n, outputs, generator=draws, dtype=F64)
    found = best_thresholds(p, g, ridge)
    for own, tau, gain in zip(p, found.threshold, found.gain, strict=True):
        low, high = float(own.min()), float(own.max())
        dense = torch.cat([own, low + (high - low) * torch.linspace(0, 1, 400, dtype=F64)])
        assert float(brute_force(own, g, dense, ridge).max()) <= float(gain) * (1 + 1e-9) + 1e-300
        if high > low:
            assert low <= float(tau) <= high
            torch.testing.assert_close(brute_force(own, g, tau[None], ridge)[0], gain, rtol=1e-6, atol=0.0)


def test_the_best_threshold_often_lies_between_data_points_where_no_data_point_is_as_good() -> None:
    between = 0
    for seed in range(200):
        draws = torch.Generator().manual_seed(seed)
        x = torch.randn(12, generator=draws, dtype=F64)
        ones = torch.stack([torch.ones_like(x), x], dim=1)
        g = torch.randn(12, 1, generator=draws, dtype=F64)
        g = g - ones @ torch.linalg.lstsq(ones, g).solution
        found = best_thresholds(torch.stack([x, -x]), g)
        best = int(found.gain.argmax())
        own = (x, -x)[best]
        if float((own - found.threshold[best]).abs().min()) > 1e-9:
            between += 1
            assert float(brute_force(own, g, own).max()) < float(found.gain[best])
    # Theory: about one case in seven.
    assert 10 <= between <= 60


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ELU(), nn.GELU()], ids=str)
def test_ascent_reaches_the_best_of_a_dense_fan_of_directions(activation: nn.Module) -> None:
    draws = torch.Generator().manual_seed(3)
    h = torch.randn(60, 2, generator=draws, dtype=F64)
    g = torch.randn(60, 2, generator=draws, dtype=F64) * 0.1
    g[:, 0] += torch.relu(h @ torch.tensor([0.6, -0.8], dtype=F64) - 0.2)
    ones = torch.cat([h, torch.ones(60, 1, dtype=F64)], dim=1)
    g = g - ones @ torch.linalg.lstsq(ones, g).solution
    crossing = choose_crossing(activation, F64)
    found = best_neuron(h, g, crossing, 16, torch.Generator().manual_seed(0))
    angles = torch.linspace(0, 2 * torch.pi, 181, dtype=F64)[:-1]
    best = 0.0
    for size in (1.0,) if crossing.is_kink else (0.3, 1.0, 3.0):
        for direction in size * torch.stack([angles.cos(), angles.sin()], dim=1):
            t = (h @ direction)[None] + torch.linspace(-12.0, 12.0, 121, dtype=F64)[:, None] + crossing.end
            phi = crossing.deviation(t)
            phi = phi[phi.abs().amax(dim=1) > 0.5]
            value = (phi @ g).square().sum(1) / phi.square().sum(1).clamp_min(1e-300)
            best = max([best, *value.tolist()])
    assert found.gain >= 0.999 * best
    phi = crossing.deviation(h @ found.direction + found.bias)
    assert float((phi @ g).norm() ** 2 / (phi @ phi)) == pytest.approx(found.gain, rel=1e-9)


@pytest.mark.parametrize(
    "map_",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding="valid", dilation=(1, 2)),
        nn.Conv2d(2, 3, 4, padding="same", padding_mode="reflect"),
        nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="circular"),
        nn.Conv1d(2, 3, 3, stride=2, padding=1, padding_mode="replicate"),
        nn.Linear(6, 3),
    ],
    ids=str,
)
def test_rows_of_a_map_times_its_weights_are_what_it_writes(map_: nn.Module) -> None:
    map_ = map_.double()
    shape = (5, 6) if isinstance(map_, nn.Linear) else (5, 2, 7) if isinstance(map_, nn.Conv1d) else (5, 2, 7, 6)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    z = map_(x)
    z = z if isinstance(map_, nn.Linear) else z.movedim(1, -1)
    rows = rows_read(map_, x) @ map_.weight.flatten(1).T + map_.bias
    torch.testing.assert_close(rows, z.reshape(-1, 3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_gradient_at_a_map_is_that_of_autograd(loss: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3)).double()
    x = torch.randn(10, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    y = torch.arange(10) % 3 if loss == "cross_entropy" else torch.randn(10, 3, dtype=F64)
    risk = ls.EmpiricalRisk(net, loss, [(x[:7], y[:7]), (x[7:], y[7:])])
    heard: dict[str, list[Tensor]] = {"0": [], "3": []}
    stream_gradients(risk, ["0", "3"], lambda name, _h, _z, g: heard[name].append(g))
    first = net[0](x).detach().requires_grad_()
    last = net[3](net[2](torch.relu(first)))
    value = nn.functional.cross_entropy(last, y) if loss == "cross_entropy" else nn.functional.mse_loss(last, y)
    expected = torch.autograd.grad(value, [first, last])
    torch.testing.assert_close(torch.cat(heard["0"]), expected[0].movedim(1, -1).reshape(-1, 2), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(torch.cat(heard["3"]), expected[1], rtol=1e-9, atol=1e-15)


def test_shares_that_cancel_are_told_from_those_that_do_not() -> None:
    h = torch.tensor([[1.0, 2.0], [1.0, 2.0 + 1e-14], [0.5, 2.0]], dtype=F64)
    g = torch.tensor([[2.0], [-2.0], [0.0]], dtype=F64)
    assert separable_share(h, g) == 0.0
    assert separable_share(h, torch.tensor([[2.0], [-1.0], [-1.0]], dtype=F64)) == pytest.approx(1 / 3)
