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
    embedding = ls.lift(base.model, x, ["0", "2"][seed % 2], width=4, activation=activation, generator=generator)
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


def nearly_saturated_null_neuron(seed):
    """A tanh network at a planted critical point: its second neuron has out-weight 0 and is close to 1 on all data."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=DTYPE)
    x, W, b = draw(150, 3), draw(2, 3), torch.tensor([0.3, 6.0], dtype=DTYPE)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(W)
        model[0].bias.copy_(b)
        model[2].weight.copy_(torch.tensor([[1.5, 0.0]], dtype=DTYPE))
    h = torch.tanh(x @ W.T + b)
    features = torch.cat([x, torch.ones(150, 1, dtype=DTYPE)], dim=1)
    gaps = 1 - h[:, 1:]
    critical = torch.cat([features[:, 3:], h[:, :1], gaps / gaps.norm(), (1 - h[:, :1] ** 2) * features], dim=1)
    drawn = draw(150, 1)
    residual = drawn - critical @ torch.linalg.lstsq(critical, drawn).solution
    return model, ls.EmpiricalRisk(model, "mse", (x, model(x).detach() - residual))


@pytest.mark.parametrize(("activation", "seed"), [("elu", 1), ("leaky_relu", 2)])
def test_lifts_of_a_nearly_saturated_null_neuron(activation, seed):
    model, risk = nearly_saturated_null_neuron(seed)
    assert certify(risk).kind == "strict saddle"
    generator = torch.Generator().manual_seed(seed)
    x, _ = next(iter(risk.batches))
    embedding = ls.lift(model, x, "0", width=3, activation=activation, generator=generator)
    for sample in (embedding.model, embedding.manifold.sample(generator)):
        assert certify(risk.with_model(sample), known_flat=embedding.manifold).kind == "strict saddle"
