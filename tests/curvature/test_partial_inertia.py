"""A partial inertia claims no eigenvalue that is not there, and finds those that it was asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.curvature.spectra import F64, rotated

import liftscape as ls
from liftscape.curvature import partial_inertia


@pytest.mark.parametrize("negative", [1, 100])
def test_the_index_of_a_thousand_eigenvalues_is_found_and_proved(negative: int) -> None:
    found = partial_inertia(rotated([-0.5] * negative + torch.linspace(0.01, 10, 1000 - negative).tolist()))
    assert (found.negative_at_least, found.complete) == (negative, True)
    assert found.smallest == pytest.approx(-0.5, abs=0.1)


@given(
    seed=st.integers(0, 10**6),
    values=st.lists(st.sampled_from([-3.0, -1e-3, -1e-14, 0.0, 0.0, 1e-14, 0.2, 0.2, 8.0]), min_size=1, max_size=90),
)
@settings(max_examples=60)
def test_no_more_is_claimed_than_there_is_and_all_of_it_is_found(seed: int, values: list[float]) -> None:
    draws = torch.Generator().manual_seed(seed)
    found = partial_inertia(rotated(values, seed), chance=1e-7, generator=draws)
    assert found.negative_at_least <= sum(v < 0 for v in values)
    assert found.positive_at_least <= sum(v > 0 for v in values)
    assert found.tolerance < 1e-9
    assert found.complete
    assert found.negative_at_least >= sum(v < -1e-9 for v in values)


def test_enough_is_enough() -> None:
    found = partial_inertia(rotated(torch.linspace(-1, 1, 500)), at_least=3)
    assert found.negative_at_least >= 3
    assert not found.complete
    assert found.products < 50


def test_the_gradient_norm_hides_small_eigenvalues() -> None:
    A = rotated([-1e-3, -1.0, *torch.linspace(0.5, 2, 200).tolist()])
    assert partial_inertia(A).negative_at_least == 2
    assert partial_inertia(A, gradient_norm=1e-3).negative_at_least == 1


def test_too_few_products_are_no_answer() -> None:
    found = partial_inertia(rotated([-1e-6] + [1.0] * 50 + torch.linspace(1, 100, 400).tolist()), max_products=15)
    assert not found.complete
    assert found.products <= 15
    assert found.chance > 1e-3


def test_float32_products_prove_less_but_nothing_wrong() -> None:
    A = rotated([-1.0, -1e-9, *torch.linspace(0, 2, 200).tolist()])
    found = partial_inertia(A.float())
    assert found.negative_at_least == 1
    assert found.tolerance > 1e-7


def test_a_small_memory_restarts_and_finds_the_same() -> None:
    A = rotated([-0.3, -0.2, *torch.linspace(0.01, 10, 600).tolist()])
    found = partial_inertia(A, memory_budget=40 * len(A) * 8)
    assert (found.negative_at_least, found.complete) == (2, True)


def test_a_budget_below_the_fewest_vectors_says_what_fits() -> None:
    with pytest.raises(ls.LiftscapeError, match=r"needs 24 stored vectors of 800 bytes, 19,200 bytes in all"):
        partial_inertia(torch.eye(100, dtype=F64), memory_budget=1000)
