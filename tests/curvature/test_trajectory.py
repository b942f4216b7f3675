"""Trajectories against NumPy's singular value decomposition."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import Trajectory, project_trajectory, slice_2d
from liftscape.curvature import _trajectory as module

F64 = torch.float64


def walk(steps: int = 12, size: int = 40, dtype: torch.dtype = F64) -> Tensor:
    """A random walk, far from the origin."""
    generator = torch.Generator().manual_seed(0)
    return 100 + torch.randn(steps, size, generator=generator, dtype=dtype).cumsum(0)


@pytest.mark.parametrize("center", ["last", "mean"])
@pytest.mark.parametrize("chunk", [7, 2**18])
def test_it_is_the_singular_value_decomposition(center: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    points = walk()
    middle = points[-1] if center == "last" else points.mean(dim=0)
    D = (points - middle).numpy()
    _, singular, right = np.linalg.svd(D, full_matrices=False)
    made = project_trajectory(points, components=3, center=center)
    assert torch.allclose(made.center, middle)
    assert np.allclose(np.abs((made.directions.T.numpy() * right[:3]).sum(1)), 1, atol=1e-12)
    assert np.allclose(made.explained.numpy(), singular[:3] ** 2 / (singular**2).sum())
    assert torch.allclose(made.coordinates, torch.from_numpy(D) @ made.directions, atol=1e-10)
    assert torch.allclose(made.directions.T @ made.directions, torch.eye(3, dtype=F64), atol=1e-12)
    rest = D - made.coordinates.numpy() @ made.directions.T.numpy()
    assert np.allclose(made.off_plane.numpy(), np.linalg.norm(rest, axis=1), atol=1e-12)
    assert bool((made.coordinates.gather(0, made.coordinates.abs().argmax(0, keepdim=True)) > 0).all())


@pytest.mark.parametrize("center", ["last", "mean"])
def test_points_of_a_plane_are_not_off_it(center: str) -> None:
    generator = torch.Generator().manual_seed(0)
    plane, places = (torch.randn(*shape, generator=generator, dtype=F64) for shape in ((2, 300), (20, 2)))
    made = project_trajectory(places @ plane, center=center)
    assert float(made.off_plane.max()) <= 1e-13 * float(made.coordinates.abs().max())


def test_a_training_lies_on_the_surface_under_it(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(2, 1, bias=False).double()
    x = torch.randn(30, 2, generator=generator, dtype=F64)
    risk = ls.EmpiricalRisk(net, "mse", (x, x.sum(1, keepdim=True)))
    theta, points, losses = torch.tensor([3.0, -2.0], dtype=F64), [], []
    for _ in range(6):
        points.append(dict(risk.unflatten(theta)))
        losses.append(float(risk.value(points[-1])))
        theta = theta - 0.2 * risk.gradient(points[-1])
    made = project_trajectory(point for point in points)
    assert float(made.explained.sum()) == pytest.approx(1)
    assert float(made.off_plane.max()) < 1e-7
    for (a, b), loss in zip(made.coordinates.tolist(), losses, strict=True):
        surface = slice_2d(
            risk,
            made.directions[:, 0],
            made.directions[:, 1],
            center=made.center,
            radius=(a, a + 1),
            second_radius=(b, b + 1),
            points=2,
        )
        assert float(surface.values[0, 0]) == pytest.approx(loss, rel=1e-10, abs=1e-12)
    again = Trajectory.load(made.save(tmp_path / "way.safetensors"))
    assert all(torch.equal(getattr(again, name), getattr(made, name)) for name in vars(made))


def test_small_steps_far_from_the_origin_do_not_cancel() -> None:
    points = 1e6 + 1e-3 * walk(6, 30)
    points = points.round(decimals=6)
    made = project_trajectory(points, components=2)
    _, singular, _ = np.linalg.svd((points - points[-1]).numpy(), full_matrices=False)
    assert np.allclose(made.explained.numpy(), singular[:2] ** 2 / (singular**2).sum(), rtol=1e-10)


def test_float32_points_give_float32_directions() -> None:
    made = project_trajectory(walk(dtype=torch.float32))
    assert (made.directions.dtype, made.coordinates.dtype) == (torch.float32, F64)


def test_points_are_left_as_they_are_and_not_shared() -> None:
    points = walk()
    before = points.clone()
    made = project_trajectory(points)
    made.center.zero_()
    assert torch.equal(points, before)


@pytest.mark.parametrize(
    ("points", "components", "sentence"),
    [
        (walk(1), 1, "at least 2 points"),
        (walk(3), 0, "at least 2 points and 1 direction"),
        (walk(2), 2, "span 1 about their center"),
        (torch.ones(4, 5, dtype=F64), 1, "span 0 about their center"),
        ([torch.ones(3), torch.ones(4)], 1, r"point 0 has shape \(3,\) and point 1 \(4,\)"),
        (torch.tensor([[1.0], [float("nan")]]), 1, "point 1 of the trajectory holds NaN"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(points, components: int, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        project_trajectory(points, components=components)
