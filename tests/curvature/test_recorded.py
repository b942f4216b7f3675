"""Work that is cut off at any product resumes to what it would have been, without taking a product twice."""

from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from tests.curvature.spectra import F64, rotated

import liftscape as ls
from liftscape.curvature import (
    block_curvature,
    diagonal,
    eigenpairs,
    layer_curvature,
    partial_inertia,
    slice_1d,
    slice_2d,
    spectral_density,
    trace,
)
from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import from_plain


class KillError(BaseException):
    """Stands for a kill: nothing here may catch it."""


@final
class Counted:
    """A matrix that counts its columns of products, and ends the work at one of them."""

    def __init__(self, matrix: torch.Tensor, end: int | None = None) -> None:
        self.matrix, self.end, self.columns, self.calls = matrix, end, 0, 0

    def operator(self) -> SymmetricOperator:
        """Return it as an operator."""

        def multiply(block: np.ndarray) -> np.ndarray:
            self.calls += 1
            if self.calls == self.end:
                raise KillError
            self.columns += block.size // len(self.matrix)
            return self.matrix.numpy() @ block

        size = len(self.matrix)
        return as_operator(LinearOperator((size, size), matvec=multiply, matmat=multiply, dtype=np.float64))  # pyright: ignore


MATRIX = rotated(torch.linspace(-2, 5, 150, dtype=F64))
Work = Callable[[SymmetricOperator, Path | None, torch.Generator], str]
WORKS: dict[str, Work] = {
    "hutchinson": lambda H, folder, g: trace(H, generator=g, checkpoint=folder).to_json(),
    "hutch++": lambda H, folder, g: trace(H, method="hutch++", probes=120, generator=g, checkpoint=folder).to_json(),
    "diagonal": lambda H, folder, g: diagonal(H, generator=g, checkpoint=folder).to_json(),
    "exact diagonal": lambda H, folder, g: diagonal(H, exact=True, generator=g, checkpoint=folder).to_json(),
    "density": lambda H, folder, g: spectral_density(H, steps=40, probes=2, generator=g, checkpoint=folder).to_json(),
    "block": lambda H, folder, g: block_curvature(H, name="all", generator=g, checkpoint=folder).to_json(),
    "eigenpairs": lambda H, folder, g: eigenpairs(H, 2, generator=g, checkpoint=folder).to_json(),
    "inertia": lambda H, folder, g: partial_inertia(H, at_least=5, generator=g, checkpoint=folder).to_json(),
}


def seeded() -> torch.Generator:
    """Return a generator in a state that no default has."""
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_cut_off_resumes_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    work, whole, untouched = WORKS[name], Counted(MATRIX), seeded()
    expected = work(whole.operator(), None, untouched)
    killed = Counted(MATRIX, end=max(3, whole.calls // 2))
    with pytest.raises(KillError):
        work(killed.operator(), tmp_path / "work", seeded())
    again, generator = Counted(MATRIX), seeded()
    assert work(again.operator(), tmp_path / "work", generator) == expected
    assert torch.equal(generator.get_state(), untouched.get_state())
    # Each run takes one product to see that the operator is the same.
    assert killed.columns + again.columns == whole.columns + 2


@pytest.mark.parametrize("name", WORKS)
def test_work_after_one_that_was_finished_draws_as_if_it_had_not_been(tmp_path: Path, name: str) -> None:
    work, untouched = WORKS[name], seeded()
    expected = [work(Counted(MATRIX).operator(), None, untouched) for _ in range(2)]
    killed, generator = Counted(MATRIX, end=3), seeded()
    assert work(Counted(MATRIX).operator(), tmp_path / "a", generator) == expected[0]
    with pytest.raises(KillError):
        work(killed.operator(), tmp_path / "b", generator)
    generator = seeded()
    assert [work(Counted(MATRIX).operator(), tmp_path / folder, generator) for folder in "ab"] == expected
    assert torch.equal(generator.get_state(), untouched.get_state())
    generator = seeded()
    assert [work(Counted(MATRIX).operator(), folder, generator) for folder in (tmp_path / "a", None)] == expected


def test_finished_work_is_read_and_its_products_are_gone(tmp_path: Path) -> None:
    first = WORKS["block"](Counted(MATRIX).operator(), tmp_path, seeded())
    assert not list(tmp_path.rglob("*.bin"))
    again = Counted(MATRIX)
    assert WORKS["block"](again.operator(), tmp_path, seeded()) == first
    assert again.columns == 1


def test_a_checkpoint_of_other_probes_is_refused(tmp_path: Path) -> None:
    trace(MATRIX, checkpoint=tmp_path)
    with pytest.raises(ls.LiftscapeError, match="checkpoint of other work, which differs in probes"):
        trace(MATRIX, probes=50, checkpoint=tmp_path)
    with pytest.raises(ls.LiftscapeError, match="the operator itself"):
        trace(MATRIX + torch.eye(150, dtype=F64), checkpoint=tmp_path)


def test_an_inspection_resumes_at_any_layer(tmp_path: Path) -> None:
    model = ls.nets.mlp((6, 16, 14, 2), "tanh", dtype=F64)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :2].sin()))
    products: list[int] = []
    expected = ls.inspect(risk, progress=lambda done, _: products.append(done))
    for end in (products[-1] // 6, products[-1] // 2, products[-1] - 5):

        def kill(done: int, _: int, end: int = end) -> None:
            if done >= end:
                raise KillError

        folder = tmp_path / str(end)
        with pytest.raises(KillError):
            ls.inspect(risk, progress=kill, checkpoint=folder)
        assert ls.inspect(risk, checkpoint=folder).to_json() == expected.to_json()
        assert ls.inspect(risk, checkpoint=folder) == from_plain(ls.Inspection, expected.to_dict())


@pytest.mark.parametrize("work", [layer_curvature, ls.inspect])
def test_layers_after_some_that_were_finished_are_the_same(tmp_path: Path, work: Callable[..., object]) -> None:
    model = ls.nets.mlp((6, 16, 14, 2), "tanh", dtype=F64)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :2].sin()))
    untouched = seeded()
    expected = [work(risk, generator=untouched) for _ in range(2)]
    for _ in range(2):
        generator = seeded()
        assert work(risk, generator=generator, checkpoint=tmp_path / "a") == expected[0]
        assert work(risk, generator=generator, checkpoint=tmp_path / "b") == expected[1]


def test_a_large_certificate_resumes(tmp_path: Path) -> None:
    model = ls.nets.mlp((3, 12, 1), "tanh", dtype=F64)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :1].sin()))
    expected = ls.certify(risk, max_parameters=10)

    def kill(done: int, _: int) -> None:
        if done >= 10:
            raise KillError

    with pytest.raises(KillError):
        ls.certify(risk, max_parameters=10, progress=kill, checkpoint=tmp_path)
    assert ls.certify(risk, max_parameters=10, checkpoint=tmp_path).to_json() == expected.to_json()


@pytest.mark.parametrize("plane", [False, True])
def test_a_slice_resumes_with_the_values_that_it_has(tmp_path: Path, plane: bool) -> None:
    model = ls.nets.mlp((3, 5, 1), "tanh", dtype=F64)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :1]))
    u, v = torch.eye(risk.size, dtype=F64)[:2]

    def run(**options: object) -> torch.Tensor:
        return (
            slice_2d(risk, u, v, points=4, **options).values
            if plane
            else slice_1d(risk, u, points=16, **options).values
        )

    def kill(done: int, _: int) -> None:
        if done == 7:
            raise KillError

    with pytest.raises(KillError):
        run(progress=kill, checkpoint=tmp_path)
    record = tmp_path / "values.bin"
    assert record.stat().st_size == 7 * 24
    record.write_bytes(record.read_bytes()[:-3])
    assert torch.equal(run(checkpoint=tmp_path), run())
    assert record.stat().st_size == 16 * 24
    with pytest.raises(ls.LiftscapeError, match="checkpoint of other work"):
        slice_1d(risk, v, points=16, checkpoint=tmp_path)
