"""Each layer's curvature against the dense Hessian's diagonal blocks."""

import pytest
import torch

import liftscape as ls
from liftscape.curvature import layer_curvature, layer_sizes, layers_of


@pytest.fixture(scope="module")
def risk() -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(0)
    model = ls.nets.mlp((6, 25, 12, 3), "tanh", dtype=torch.float64)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    return ls.EmpiricalRisk(model, "cross_entropy", (x, torch.randint(3, (40,), generator=generator)))


def test_rows_bound_the_blocks_of_the_dense_hessian(risk: ls.EmpiricalRisk) -> None:
    dense = risk.hessian().to_dense()
    whole = torch.linalg.eigvalsh(dense)
    # A confidence at which no seed is expected to miss.
    rows = layer_curvature(risk, probes=40, tolerance=1e-6, confidence=1 - 1e-6)
    layers = layers_of(risk.parameters)
    assert [row.layer for row in rows] == list(layers)
    assert {row.status for row in rows} == {"converged"}
    # One layer is diagonalised, others are estimated.
    assert min(row.parameters for row in rows) <= 128 < max(row.parameters for row in rows)
    for row in rows:
        block = dense[layers[row.layer], layers[row.layer]]
        values = torch.linalg.eigvalsh(block)
        assert row.parameters == len(block)
        assert abs(row.lowest - float(values[0])) <= row.lowest_bound + 1e-12
        assert abs(row.highest - float(values[-1])) <= row.highest_bound + 1e-12
        assert row.trace.interval[0] <= float(block.trace()) <= row.trace.interval[1]
        assert whole[0] - 1e-12 <= row.lowest <= row.highest <= whole[-1] + 1e-12


def test_chosen_layers_only_and_the_same_seed_gives_the_same_rows(risk: ls.EmpiricalRisk) -> None:
    name = list(layers_of(risk.parameters))[1]
    first, second = (layer_curvature(risk, at=[name], generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert [row.layer for row in first] == [name]
    assert [row.to_json() for row in first] == [row.to_json() for row in second]


def test_progress_ends_at_the_number_of_products(risk: ls.EmpiricalRisk) -> None:
    seen: list[tuple[int, int]] = []
    rows = layer_curvature(risk, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == sum(row.products for row in rows)
    assert all(done <= total for done, total in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_unknown_layer_is_refused_with_those_that_there_are(risk: ls.EmpiricalRisk) -> None:
    with pytest.raises(ls.LiftscapeError, match=r"there is no layer 'head'; the layers are "):
        layer_curvature(risk, at=["head"])


class Tied(torch.nn.Module):
    """A reader that borrows the weights of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.reader = torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9)
        self.reader.weight = self.words.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.reader(self.words(words))


def test_a_tied_parameter_is_in_one_layer_alone() -> None:
    torch.manual_seed(0)
    words = torch.randint(0, 9, (12,))
    risk = ls.EmpiricalRisk(Tied().double(), "cross_entropy", (words, words))
    rows = {row.layer: row for row in layer_curvature(risk)}
    assert {name: row.parameters for name, row in rows.items()} == layer_sizes(risk) == {"words": 36, "reader": 9}
    dense = risk.hessian().to_dense()
    assert rows["words"].trace.value == pytest.approx(float(dense[:36, :36].trace()), abs=1e-12)
    assert rows["reader"].highest == pytest.approx(float(torch.linalg.eigvalsh(dense[36:, 36:])[-1]), abs=1e-12)
