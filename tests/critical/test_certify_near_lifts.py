"""The long scan: lifted minima and saddles at points moved off criticality, with and without their manifold."""

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.critical import certify
from tests.critical.test_certify import DTYPE, MINIMA, planted


@pytest.mark.long
@pytest.mark.parametrize("activation", ["elu", "relu", "leaky_relu"])
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("kind", "allowed"), [("minimum", MINIMA), ("saddle", {"strict saddle"})])
def test_never_wrong_off_criticality(kind, allowed, seed, activation):
    base = planted(nn.Tanh, kind, seed)
    x, _ = next(iter(base.batches))
    generator = torch.Generator().manual_seed(seed)
    embedding = ls.lift(
        base.model, at=["0", "2"][seed % 2], inputs=x, width=4, activation=activation, generator=generator
    )
    risk = base.with_model(embedding.model)
    exact = certify(risk, known_flat=embedding.manifold)
    assert exact.kind in allowed
    for distance in (1e-12, 1e-10, 1e-8, 1e-6):
        move = distance * torch.randn(risk.size, generator=generator, dtype=DTYPE)
        near = risk.at(risk.unflatten(risk.flatten() + move))
        for known in (embedding.manifold, None):
            found = certify(near, known_flat=known, tolerance=1e-2)
            hedged = {"undecided", "gradient-flat"} | ({"minimum candidate"} if kind == "minimum" else set())
            assert found.kind in allowed | hedged, (distance, found.reason)
            assert not found.inertia.decided or found.inertia.triple == exact.inertia.triple
