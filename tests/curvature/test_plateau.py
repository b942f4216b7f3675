"""The plateau reading against closed forms, dense spectra and scipy's constrained minimiser."""

from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import newton_step, plateau_of_spectrum, plateau_reading
from liftscape.curvature._trust_region import minimise_quadratic
from liftscape.operators import as_operator


class Quadratic(nn.Module):
    """A model whose output is ½ θᵀAθ + gᵀθ + r, so that the risk is any quadratic."""

    def __init__(self, A: Tensor, g: Tensor, theta: Tensor, offset: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.A, self.g, self.offset = A, g, offset

    def forward(self, x: Tensor) -> Tensor:
        """Return the same value for every sample."""
        value = self.theta @ self.A @ self.theta / 2 + self.g @ self.theta + self.offset
        return value.expand(len(x), 1)


def quadratic_risk(A: Tensor, g: Tensor, theta: Tensor, offset: float) -> ls.EmpiricalRisk:
    x = torch.zeros(3, 1, dtype=torch.float64)
    return ls.EmpiricalRisk(Quadratic(A, g, theta, offset), lambda output, _: output.mean(), (x, x))


def symmetric(size: int, generator: torch.Generator, shift: float = 0.0) -> Tensor:
    A = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return (A + A.T) / 2 + shift * torch.eye(size, dtype=torch.float64)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), radius=st.floats(1e-3, 1e3), kernel=st.integers(0, 2))
def test_no_point_of_the_ball_lies_below_the_trust_region_step(
    seed: int, size: int, radius: float, kernel: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=generator, dtype=torch.float64).sort().values
    c = torch.randn(size, generator=generator, dtype=torch.float64)
    # The hard case: the gradient has no part along the lowest eigenvalues.
    c[:kernel] = 0.0
    s = minimise_quadratic(values, c, radius)
    assert float(s.norm()) <= radius * (1 + 1e-8)

    def model(points: Tensor) -> Tensor:
        return points @ c + (points**2 @ values) / 2

    others = torch.randn(2000, size, generator=generator, dtype=torch.float64)
    inside = torch.rand(2000, 1, generator=generator, dtype=torch.float64) ** (1 / size)
    others = others / others.norm(dim=1, keepdim=True) * radius * inside
    scale = radius * float(c.norm()) + radius**2 * float(values.abs().max())
    assert float(model(s)) <= float(model(others).min()) + 1e-9 * scale


@pytest.mark.parametrize("seed", range(200))
def test_with_one_component_the_step_reaches_the_sphere_whatever_the_rounding(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    value, c, reach = (torch.randn(1, generator=draws, dtype=torch.float64).abs() for _ in range(3))
    radius = float(reach)
    s = minimise_quadratic(-value, c, radius)
    torch.testing.assert_close(s, -torch.tensor([radius], dtype=torch.float64), rtol=1e-9, atol=0.0)


def test_steps_of_a_convex_quadratic_are_those_of_the_closed_forms() -> None:
    generator = torch.Generator().manual_seed(1)
    A, g = symmetric(6, generator, shift=6.0), torch.randn(6, generator=generator, dtype=torch.float64)
    theta = torch.randn(6, generator=generator, dtype=torch.float64)
    risk = quadratic_risk(A, g, theta, 10.0)
    slope = A @ theta + g
    found = plateau_reading(risk, radius=1e6)
    assert found.gradient_step.predicted_decrease == pytest.approx(
        float((slope @ slope) ** 2 / (2 * slope @ A @ slope)), rel=1e-10
    )
    assert found.newton_step.predicted_decrease == pytest.approx(
        float(slope @ torch.linalg.solve(A, slope)) / 2, rel=1e-10
    )
    for step in (found.gradient_step, found.newton_step):
        assert step.decrease == pytest.approx(step.predicted_decrease, rel=1e-9)
    assert found.relative_gradient == pytest.approx(float(slope.norm() * theta.norm() / risk.value()), rel=1e-12)
    assert found.lowest_curvature == pytest.approx(float(torch.linalg.eigvalsh(A)[0]), rel=1e-6)
    assert not found.descends


@given(seed=st.integers(0, 10**6), radius=st.floats(1e-3, 10.0))
def test_the_krylov_reading_agrees_with_that_of_the_whole_spectrum(seed: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    A, g = symmetric(8, generator), torch.randn(8, generator=generator, dtype=torch.float64)
    risk = quadratic_risk(A, g, torch.randn(8, generator=generator, dtype=torch.float64), 1.0)
    krylov = plateau_reading(risk, radius=radius)
    values, vectors = torch.linalg.eigh(A)
    dense = plateau_of_spectrum(
        risk, gradient=risk.gradient(), eigenvalues=values, vectors=vectors, bound=1e-14, radius=radius
    )
    for name in ("gradient_step", "newton_step"):
        ours, theirs = getattr(krylov, name), getattr(dense, name)
        assert ours.predicted_decrease == pytest.approx(theirs.predicted_decrease, rel=1e-6, abs=1e-9)
        # The risk is its own quadratic model.
        assert ours.decrease == pytest.approx(ours.predicted_decrease, rel=1e-6, abs=1e-9)
        assert ours.length <= krylov.radius * (1 + 1e-8)
    assert krylov.lowest_curvature == pytest.approx(dense.lowest_curvature, abs=1e-2)
    assert abs(krylov.lowest_curvature - dense.lowest_curvature) <= krylov.curvature_bound + 1e-12


@pytest.mark.parametrize(
    ("diagonal", "slope", "state"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "slope"),
        # Steep walls hide a long valley from the gradient.
        ([1e4, 1e-4, 1.0], [1.0, 0.2, 0.0], "plateau"),
        # The gradient vanishes nearly, a direction beside it falls.
        ([1.0, -1.0, 1.0], [1e-6, 1e-6, 1e-6], "plateau"),
        ([1.0, 1.0, 1.0], [1e-6, 1e-6, 1e-6], "flat"),
    ],
)
def test_the_state_tells_slopes_plateaus_and_flat_places_apart(
    diagonal: list[float], slope: list[float], state: str
) -> None:
    A, g = torch.diag(torch.tensor(diagonal, dtype=torch.float64)), torch.tensor(slope, dtype=torch.float64)
    theta = torch.full((3,), 10.0, dtype=torch.float64)
    found = plateau_reading(quadratic_risk(A, g - A @ theta, theta, 1.0 + float(theta @ A @ theta) / 2), radius=0.1)
    assert found.state == state, found
    assert found.descends == (min(diagonal) < 0)
    assert (f"{found.lowest_curvature:.2g}" in found.reading) is True


def test_a_point_without_gradient_is_flat_and_its_curvature_is_still_read() -> None:
    A = torch.diag(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    found = plateau_reading(
        quadratic_risk(A, torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), 1.0)
    )
    assert (found.gradient_norm, found.relative_gradient, found.newton_step.length) == (0.0, 0.0, 0.0)
    assert found.lowest_curvature == pytest.approx(-1.0)
    assert found.descends


def test_a_risk_without_a_finite_gradient_reads_nan() -> None:
    x = torch.zeros(2, 1, dtype=torch.float64)
    model = Quadratic(
        torch.eye(2, dtype=torch.float64),
        torch.full((2,), inf, dtype=torch.float64),
        torch.ones(2, dtype=torch.float64),
        0.0,
    )
    found = plateau_reading(ls.EmpiricalRisk(model, lambda output, _: output.mean(), (x, x)))
    assert found.newton_step.length != found.newton_step.length
    assert "not finite" in found.reading


def test_a_hessian_that_is_not_finite_reads_nan() -> None:
    class Root(nn.Module):
        """A model with a finite gradient and an infinite second derivative."""

        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.theta).abs().pow(1.5) + self.theta

    x = torch.zeros(3, 2, dtype=torch.float64)
    found = plateau_reading(ls.EmpiricalRisk(Root(), lambda output, _: output.mean() + 1, (x, x)))
    assert found.state == "not finite"
    assert found.reading.startswith("The Hessian is not finite here: ")
    assert "in 'theta', first from PowBackward0" in found.reading
    assert found.newton_step.length != found.newton_step.length


def test_the_model_is_left_as_it_was_and_the_same_seed_reads_the_same() -> None:
    model = ls.nets.mlp((3, 5, 1), "tanh", dtype=torch.float64)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :1]))
    assert plateau_reading(risk).to_json() == plateau_reading(risk).to_json()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_newtons_step_solves_the_equation_whatever_the_signature() -> None:
    generator = torch.Generator().manual_seed(3)
    A, g = symmetric(7, generator), torch.randn(7, generator=generator, dtype=torch.float64)
    assert torch.allclose(newton_step(as_operator(A), g, 1e-9), -torch.linalg.solve(A, g), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("radius", "steps"), [(0.0, 30), (-1.0, 30), (0.1, 0)])
def test_a_radius_or_a_space_of_nothing_is_refused(radius: float, steps: int) -> None:
    risk = quadratic_risk(
        torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), 1.0
    )
    with pytest.raises(ls.LiftscapeError, match="radius and steps must be positive"):
        plateau_reading(risk, radius=radius, steps=steps)
