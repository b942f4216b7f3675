"""Slices of quadratic risks are parabolas; buffers stay, NaN stays, and a file gives back what it was given."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import Slice, Surface, direction_between, random_direction, slice_1d, slice_2d

F64 = torch.float64


def linear_risk() -> ls.EmpiricalRisk:
    """A linear model with squared error, whose risk is a quadratic form of θ."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=F64)
    y = torch.randn(30, 2, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(ls.nets.mlp((4, 2), generator=generator), "mse", (x, y))


def drawn(size: int, seed: int) -> Tensor:
    """A Gaussian vector."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=F64)


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers."""
    return copy.deepcopy(model.state_dict())


def test_a_slice_of_a_quadratic_risk_is_its_parabola() -> None:
    risk = linear_risk()
    u = drawn(risk.size, 1)
    made = slice_1d(risk, u, radius=(-2.0, 3.0), points=11)
    a, H, g = made.coordinates, risk.hessian().to_dense(), risk.gradient()
    expected = risk.value() + a * (g @ u) + a.square() / 2 * (u @ H @ u)
    assert torch.allclose(made.values, expected, rtol=1e-12)
    assert (float(a[0]), float(a[-1]), made.norm) == (-2.0, 3.0, float(u.norm()))


def test_a_surface_of_a_quadratic_risk_is_its_paraboloid_with_rows_along_the_first_direction() -> None:
    risk = linear_risk()
    u, v = drawn(risk.size, 1), drawn(risk.size, 2)
    center = drawn(risk.size, 3)
    made = slice_2d(risk, u, v, radius=0.5, second_radius=(0.0, 2.0), points=5, center=center)
    H, g = risk.hessian().to_dense(), risk.gradient(risk.unflatten(center))
    for i, a in enumerate(made.first.tolist()):
        for j, b in enumerate(made.second.tolist()):
            step = a * u + b * v
            expected = risk.value(risk.unflatten(center)) + g @ step + step @ H @ step / 2
            assert float(made.values[i, j]) == pytest.approx(float(expected), rel=1e-11)
    assert made.cosine == pytest.approx(float(u @ v / u.norm() / v.norm()))


def test_the_middle_of_a_symmetric_range_is_the_center_itself() -> None:
    risk = linear_risk()
    for points in (3, 41, 101):
        made = slice_1d(risk, drawn(risk.size, 1), radius=0.1, points=points)
        assert float(made.coordinates[points // 2]) == 0.0
        assert float(made.values[points // 2]) == float(risk.value())
        assert torch.equal(made.coordinates, -made.coordinates.flip(0))


def test_a_line_between_networks_ends_at_both() -> None:
    first, second = linear_risk(), linear_risk()
    second = second.at(second.unflatten(drawn(second.size, 5)))
    made = slice_1d(first, direction_between(first.model, second.model), radius=(0.0, 1.0), points=5)
    assert float(made.values[0]) == float(first.value())
    assert float(made.values[-1]) == pytest.approx(float(second.value()), rel=1e-13)


@pytest.mark.parametrize("training", [False, True])
def test_running_statistics_are_neither_perturbed_nor_moved(training: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(50, 3, generator=generator, dtype=F64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64))
    model(x)
    # So small a variance that a perturbed one would be negative, and the risk NaN.
    model[1].running_var.fill_(1e-6)
    model.train(training)
    risk = ls.EmpiricalRisk(model, "mse", (x, torch.randn(50, 1, generator=generator, dtype=F64)))
    before = state(model)
    u, v = random_direction(risk), random_direction(risk, generator=torch.Generator().manual_seed(1))
    assert len(u) == sum(parameter.numel() for parameter in model.parameters())
    surface = slice_2d(risk, u, v, points=3)
    assert bool(torch.isfinite(surface.values).all())
    assert all(torch.equal(before[name], entry) for name, entry in model.state_dict().items())
    assert model.training == training
    assert all(parameter.grad is None for parameter in model.parameters())
    # The oracle moves the weights of a copy by hand and calls it.
    moved = copy.deepcopy(model)
    nn.utils.vector_to_parameters(risk.flatten() + surface.first[0] * u + surface.second[2] * v, moved.parameters())
    x, y = next(iter(risk.batches))
    assert float(surface.values[0, 2]) == pytest.approx((moved(x) - y).square().mean().item(), rel=1e-12)


class Rooted(nn.Module):
    """f = √w · x, which is NaN for w < 0, and an exponential that overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5], dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w.sqrt() * torch.exp((self.w * 1000).clamp_max(1e5) - 1000)


def test_values_that_are_not_finite_are_kept_where_they_are(tmp_path) -> None:
    x = torch.ones(3, 1, dtype=F64)
    risk = ls.EmpiricalRisk(Rooted(), "mse", (x, x))
    made = slice_1d(risk, torch.ones(1, dtype=F64), radius=(-1.0, 1.0), points=9)
    assert made.values.isnan().tolist() == [True] * 2 + [False] * 7
    assert made.values.isinf().tolist() == [float(0.5 + a) > 1.36 for a in made.coordinates]
    again = Slice.load(made.save(tmp_path / "line.safetensors"))
    assert torch.equal(again.values.nan_to_num(7, 8, 9), made.values.nan_to_num(7, 8, 9))
    assert "NaN" not in made.to_json()


def test_an_exception_leaves_the_model_as_it_was() -> None:
    risk = linear_risk()
    before = state(risk.model)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slice_1d(risk, drawn(risk.size, 1), progress=stop)
    assert all(torch.equal(before[name], entry) for name, entry in risk.model.state_dict().items())


def test_progress_counts_points_and_same_input_gives_same_bytes(tmp_path) -> None:
    risk = linear_risk()
    calls: list[tuple[int, int]] = []
    u, v = drawn(risk.size, 1), drawn(risk.size, 2)
    made = slice_2d(risk, u, v, points=4, progress=lambda *at: calls.append(at))
    assert calls == [(done, 16) for done in range(1, 17)]
    again = Surface.load(made.save(tmp_path / "a.safetensors"))
    assert all(torch.equal(getattr(again, name), getattr(made, name)) for name in ("first", "second", "values"))
    assert (again.norms, again.cosine) == (made.norms, made.cosine)
    slice_2d(risk, u, v, points=4).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_float32_networks_and_several_batches() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    net = nn.Linear(3, 1)
    whole = ls.EmpiricalRisk(net, "mse", (x, x[:, :1]))
    parts = ls.EmpiricalRisk(net, "mse", [(x[:7], x[:7, :1]), (x[7:], x[7:, :1])])
    u = torch.ones(4, dtype=F64)
    assert torch.allclose(slice_1d(whole, u).values, slice_1d(parts, u).values, rtol=1e-5)


def refusals() -> list[tuple]:
    """What is asked, and a part of the sentence that refuses it."""
    risk = linear_risk()
    u = drawn(risk.size, 1)
    return [
        (lambda: slice_1d(risk, u[:-1]), r"shape \(10,\), one entry a parameter"),
        (lambda: slice_1d(risk, u * math.nan), "direction must be finite"),
        (lambda: slice_1d(risk, u, radius=-1.0), "range low < high"),
        (lambda: slice_1d(risk, u, radius=(1.0, math.inf)), "range low < high"),
        (lambda: slice_1d(risk, u, points=1), "at least 2 points"),
        (lambda: slice_1d(risk, u, center=u[:3]), r"vector \(10,\), but shape \(3,\)"),
        (lambda: slice_2d(risk, u, -2 * u), "two independent directions"),
        (lambda: slice_2d(risk, u, 0 * u), "two independent directions"),
        (lambda: slice_1d(risk, u, points=2).save("line.csv"), "saved as .safetensors"),
        (lambda: slice_1d(risk, u, points=2).save("/nowhere/at.safetensors"), "is no folder"),
        (lambda: Slice.load("missing.safetensors"), "there is no file"),
    ]


@pytest.mark.parametrize("case", range(len(refusals())))
def test_bad_input_is_refused_in_one_sentence(case: int) -> None:
    ask, sentence = refusals()[case]
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ask()


def test_a_file_of_another_kind_or_a_damaged_one_is_refused(tmp_path) -> None:
    risk = linear_risk()
    path = slice_1d(risk, drawn(risk.size, 1), points=2).save(tmp_path / "line.safetensors")
    with pytest.raises(ls.LiftscapeError, match="holds no surface"):
        Surface.load(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ls.LiftscapeError, match="cannot be read"):
        Slice.load(path)
