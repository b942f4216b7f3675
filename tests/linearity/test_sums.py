"""Sums, identities and chains of affine maps as one map, against dense matrices built entry by entry."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.embedding.dense_matrix import dense_matrix
from torch import nn

from liftscape.linearity import chain_of, identity_like, sum_of

F64 = torch.float64
GEOMETRY = [
    {"kernel_size": 1},
    {"kernel_size": 1, "groups": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": "same", "groups": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "groups": 4},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3},
    {"kernel_size": 2},
    {"kernel_size": (3, 1), "padding": (1, 0)},
    {"kernel_size": (1, 3), "padding": (0, 1)},
]


def constant(map_: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    with torch.no_grad():
        return map_(torch.zeros(1, *shape, dtype=F64)).flatten().numpy()


@pytest.mark.parametrize(("mine", "yours"), list(itertools.combinations_with_replacement(range(len(GEOMETRY)), 2)))
def test_a_sum_is_the_sum_of_the_dense_matrices_or_is_refused(mine: int, yours: int) -> None:
    torch.manual_seed(0)
    shape = (4, 7, 6)
    first = nn.Conv2d(4, 4, **GEOMETRY[mine], bias=False).to(F64)
    second = nn.Conv2d(4, 4, **GEOMETRY[yours]).to(F64)
    A, B = dense_matrix(first, shape), dense_matrix(second, shape)
    whole = sum_of(first, second)
    if A.shape != B.shape:
        assert isinstance(whole, str)
        return
    if isinstance(whole, str):
        geometry = (GEOMETRY[mine], GEOMETRY[yours])
        kernels = [
            g["kernel_size"] if isinstance(g["kernel_size"], tuple) else (g["kernel_size"],) * 2 for g in geometry
        ]
        modes = {g.get("padding_mode", "zeros") for g in geometry if g.get("padding", 0) != 0}
        both = any(max(a, 1) > 1 and max(b, 1) > 1 for a, b in zip(*kernels, strict=True))
        dilated = len({g.get("dilation", 1) for g in geometry}) > 1 and both
        costs = "would take" in whole
        assert costs or len(modes) > 1 or dilated
        return
    assert whole.weight.numel() < first.weight.numel() + second.weight.numel()
    assert abs(dense_matrix(whole, shape) - (A + B)).max() < 1e-14
    np.testing.assert_allclose(constant(whole, shape), constant(first, shape) + constant(second, shape), atol=1e-14)


@pytest.mark.parametrize("geometry", GEOMETRY)
def test_the_identity_is_the_unit_matrix_or_is_refused(geometry: dict) -> None:
    shape = (4, 7, 6)
    map_ = nn.Conv2d(4, 4, **geometry).to(F64)
    unit = identity_like(map_)
    same = dense_matrix(map_, shape).shape == (168, 168)
    if isinstance(unit, str):
        assert not same or geometry.get("stride", 1) != 1
        assert "does not write where it reads" in unit
        return
    assert same
    assert (dense_matrix(unit, shape) == np.eye(168)).all()
    assert unit.bias is None
    assert isinstance(identity_like(nn.Conv2d(4, 6, **{**geometry, "groups": 1})), str)


@given(axes=st.integers(0, 2), norms=st.tuples(*[st.booleans()] * 3), seed=st.integers(0, 10**6))
def test_a_chain_is_what_its_layers_compute_one_after_the_other(
    axes: int, norms: tuple[bool, bool, bool], seed: int
) -> None:
    torch.manual_seed(seed)
    if axes == 0:
        maps, norm, shape = [nn.Linear(3, 5), nn.Linear(5, 4, bias=False)], nn.BatchNorm1d, (3,)
    else:
        kind, norm = (nn.Conv1d, nn.BatchNorm1d) if axes == 1 else (nn.Conv2d, nn.BatchNorm2d)
        maps, shape = [kind(3, 6, 3, 2, groups=3), kind(6, 4, 1, groups=1 if axes == 1 else 2)], (3, *[7] * axes)
    layers: list[nn.Module] = []
    widths = (3, len(maps[0].weight), 4)
    for place, width in enumerate(widths):
        layers += [norm(width)] * norms[place] + maps[place : place + 1]
    chain = nn.Sequential(*layers).to(F64)
    chain(torch.randn(30, *shape, dtype=F64) * 3 + 1)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(9, *shape, dtype=F64)
    whole = chain_of(list(chain.eval()))
    if axes == 2:
        # Three and two groups have none in common, and one dense kernel would take more multiplications.
        assert isinstance(whole, str)
        assert "would take" in whole
        return
    if axes == 1:
        assert isinstance(whole, str) == (4 * 3 * 3 >= 6 * 3 + 4 * 6)
    if not isinstance(whole, str):
        with torch.no_grad():
            torch.testing.assert_close(whole(x), chain(x), rtol=1e-12, atol=1e-12)


def test_a_norm_in_front_of_a_padded_convolution_is_refused_where_it_leaves_a_constant() -> None:
    torch.manual_seed(0)
    norm, map_ = nn.BatchNorm2d(2).to(F64), nn.Conv2d(2, 3, 3, padding=1).to(F64)
    x = torch.randn(9, 2, 5, 5, dtype=F64)
    norm.eval()
    scaled = chain_of([norm, map_])
    assert not isinstance(scaled, str)
    with torch.no_grad():
        torch.testing.assert_close(scaled(x), map_(norm(x)), rtol=1e-12, atol=1e-12)
        norm.bias.fill_(1.0)
    refused = chain_of([norm, map_])
    assert isinstance(refused, str)
    assert "borders" in refused
    assert "a norm alone" in str(chain_of([norm]))
    assert "two norms" in str(chain_of([norm, norm, map_]))
