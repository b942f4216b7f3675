"""General compatible embeddings: outputs for every input, gradient, inertia, and the equations that refuse."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import liftscape as ls

F64 = torch.float64
# With which a critical point can be planted.
SEEDS = (0, 3, 4, 5, 6)


def deep(seed: int = 0) -> nn.Module:
    return ls.nets.mlp((3, 3, 3, 2), generator=torch.Generator().manual_seed(seed))


def cnn() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ELU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4 * 4, 2)).to(F64)


def gap(first: nn.Module, second: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((first(x) - second(x)).abs().max() / second(x).abs().max())


def inertia_at(risk: ls.EmpiricalRisk) -> "ls.curvature.Inertia":
    return ls.curvature.inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))


def planted(model: nn.Module, kind: str, seed: int) -> ls.EmpiricalRisk:
    g = torch.Generator().manual_seed(seed)
    inputs = torch.randn(150, 3, generator=g, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (inputs, ls.plant_critical_point(model, inputs, kind=kind, generator=g)))


@st.composite
def neuron_maps(draw: st.DrawFn, width: int = 3, null: bool = True) -> tuple[list[int | None], list[float]]:
    """Any index map with any shares that add up to 1."""
    index = list(draw(st.permutations(range(width)))) + draw(st.lists(st.integers(0, width - 1), max_size=3))
    shares = [draw(st.floats(-2, 2)) for _ in index]
    for source in range(width):
        first = index.index(source)
        shares[first] = 1.0 - sum(share for j, share in enumerate(shares) if index[j] == source and j != first)
    nulls = draw(st.integers(0, 2)) if null else 0
    return [*index, *[None] * nulls], [*shares, *[0.0] * nulls]


def as_map(pair: tuple[list[int | None], list[float]]) -> ls.NeuronMap:
    return ls.NeuronMap(tuple(pair[0]), tuple(pair[1]))


@settings(max_examples=25)
@given(neuron_maps(), neuron_maps(), st.sampled_from(SEEDS))
def test_two_layers_at_once_keep_outputs_and_criticality(first, second, seed: int) -> None:
    risk = planted(deep(seed), "minimum", seed)
    wider = ls.embed(risk.model, layers={"0": as_map(first), "2": as_map(second)})
    far = 100 * torch.randn(20, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    assert gap(wider.model, risk.model, far) <= 2e-11
    widened = risk.with_model(wider.model)
    scale = float(wider.chart.jacobian(widened.parameters).norm())
    assert float(widened.gradient().norm()) <= 1e-12 * max(1.0, scale)
    back = wider.chart.project(widened.parameters)
    assert all(torch.allclose(back[name], tensor, rtol=0, atol=1e-11) for name, tensor in risk.parameters.items())


@settings(max_examples=8)
@given(
    neuron_maps(null=False), st.sampled_from(SEEDS), st.sampled_from(["minimum", "saddle"]), st.sampled_from(["0", "2"])
)
def test_the_inertia_of_copies_is_predicted(neurons, seed: int, kind: str, at: str) -> None:
    # A share of 1e-9 moves eigenvalues by less than their zeros are known to.
    assume(all(share == 0 or abs(share) >= 1e-3 for share in neurons[1]))
    risk = planted(deep(seed), kind, seed)
    wider = ls.embed(risk.model, layers={at: as_map(neurons)})
    predicted, measured = wider.predict_inertia(inertia_at(risk), risk), inertia_at(risk.with_model(wider.model))
    assert predicted.exact
    if measured.decided:
        assert predicted.holds(measured)
        assert measured.zero >= inertia_at(risk).zero + len(neurons[0]) - 3
    assert wider.predict_inertia(inertia_at(risk)).holds(measured)


@pytest.mark.parametrize("kind", ["minimum", "saddle"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_copies_with_signs_plus_plus_minus(kind: str, seed: int) -> None:
    """(n₋ + r, n₀ + 2P − 2r, n₊ + r) for one hidden layer, r = rank H₂, and the bound on the lowest eigenvalue."""
    model = ls.nets.mlp((3, 3, 1), generator=torch.Generator().manual_seed(seed))
    risk = planted(model, kind, seed)
    blocks = [ls.embedding.fibre_block(risk, "0", neuron) for neuron in range(3)]
    values = torch.cat([torch.linalg.eigvalsh(block) for block in blocks])
    r, P = int((values.abs() > 1e-9 * values.abs().max()).sum()), 3 * (3 + 1 + 1)
    tripled = ls.NeuronMap((0, 0, 0, 1, 1, 1, 2, 2, 2), (1.0, 1.0, -1.0) * 3)
    wider = ls.embed(model, layers={"0": tripled})
    widened, before = risk.with_model(wider.model), inertia_at(risk)
    measured = inertia_at(widened)
    assert measured.decided
    assert measured.triple == (before.negative + r, before.zero + 2 * P - 2 * r, before.positive + r)
    assert wider.predict_inertia(before, risk).holds(measured)
    lowest = float(torch.linalg.eigvalsh(widened.hessian().to_dense())[0])
    assert lowest <= -max(float(values.max()) / 3, -float(values.min())) + 1e-12


def test_factors_of_one_layer_on_another_are_free_within_their_equations() -> None:
    risk = planted(deep(), "saddle", 3)
    first, second = ls.NeuronMap((0, 1, 2, 0), (0.25, 1.0, 1.0, 0.75)), ls.NeuronMap.copies(3, 1, (0.5, 0.5))
    alpha = torch.tensor([[0.25, 1, 1, 0.75], [0.05, 1, 1, 0.95], [0.25, 1, 1, 0.75], [0.45, 1, 1, 0.55]], dtype=F64)
    wider = ls.embed(risk.model, layers={"0": first, "2": second}, factors={("2", "0"): alpha})
    x = torch.randn(9, 3, dtype=F64)
    assert gap(wider.model, risk.model, x) <= 1e-12
    assert float(risk.with_model(wider.model).gradient().norm()) <= 1e-12


SPREAD = ls.NeuronMap((0, 1, 2, 3, None, 3), (1.0, 1.0, 1.0, -1.0, 0.0, 2.0))


@pytest.mark.parametrize(("at", "neurons"), [("0", ls.NeuronMap.copies(3, 1, (0.3, 0.5, 0.2))), ("3", SPREAD)])
def test_channels_are_copied_too_and_their_gradient_is_that_of_the_chart(at: str, neurons: ls.NeuronMap) -> None:
    model, x = cnn(), torch.randn(12, 2, 8, 8, dtype=F64)
    wider = ls.embed(model, layers={at: neurons}, inputs=x)
    far = 10 * torch.randn(5, 2, 8, 8, dtype=F64)
    assert gap(wider.model, model, far) <= 1e-12
    risk = ls.EmpiricalRisk(model, "mse", (x, torch.randn(12, 2, dtype=F64)))
    widened = risk.with_model(wider.model)
    expected = wider.chart.jacobian(widened.parameters).T @ risk.gradient()
    # A null neuron's out-weights have a gradient of their own away from critical points.
    own = torch.ones_like(expected, dtype=torch.bool)
    if None in neurons.index:
        own = expected != 0
    assert float((widened.gradient() - expected)[own].norm()) <= 1e-12 * float(expected.norm())


def test_widened_channels_are_saved_and_composed_with_lifts(tmp_path) -> None:
    model, x = cnn(), torch.randn(12, 2, 8, 8, dtype=F64)
    wider = ls.split(ls.lift(model, x, "6", activation="elu"), x, "3", neuron=2, share=0.4)
    assert gap(wider.model, model, x) <= 1e-12
    ls.save(wider, tmp_path / "wider")
    assert torch.equal(ls.load(model, tmp_path / "wider")(x), wider.model(x))


def test_null_like_neurons_are_named() -> None:
    assert ls.split(deep(), None, "0", neuron=1, share=1.0).sites[0].null_like == (1,)
    assert ls.split(deep(), None, "0", neuron=1, share=0.0).sites[0].null_like == (3,)
    assert ls.add_null_neuron(deep(), None, "0").sites[0].null_like == (3,)


@pytest.mark.parametrize(
    ("neurons", "factors", "sentence"),
    [
        (
            ls.NeuronMap((0, 1, 2, 2), (1.0, 1.0, 0.4, 0.3)),
            None,
            "β_j = 1 over the copies of a neuron fails for neuron 2",
        ),
        (ls.NeuronMap((0, 1), (1.0, 1.0)), None, "its 0 copies have shares that add up to 0"),
        (ls.NeuronMap((0, 1, 2, None), (1.0, 1.0, 1.0, 0.5)), None, "β_j = 0 fails for neuron 3"),
        (ls.NeuronMap((0, 1, 2, 5), (1.0, 1.0, 1.0, 0.0)), None, "5 was given"),
        (ls.NeuronMap((0, 1, 2), (1.0, 1.0)), None, "3 indices and 2 shares"),
        (
            ls.NeuronMap((0, 1, 2), (1.0, 1.0, 1.0)),
            torch.tensor([[1.0, 1, 1], [1, 1, 0.5], [1, 1, 1]]),
            "for neuron 1 of '2'",
        ),
        (ls.NeuronMap.copies(3, 2, (0.5, 0.5)), torch.tensor([[1, 1, 0.2, 0.8]] * 3), "β_i α_ij = β_j over the copies"),
        (ls.NeuronMap((0, 1, 2), (1.0, 1.0, 1.0)), torch.ones(2, 3), "must have shape"),
    ],
)
def test_maps_that_are_not_compatible_are_refused(neurons: ls.NeuronMap, factors, sentence: str) -> None:
    model = deep()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.embed(model, layers={"0": neurons}, factors=None if factors is None else {("2", "0"): factors})
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_convolution_without_inputs_and_mixed_channels_are_refused() -> None:
    with pytest.raises(ls.LiftscapeError, match="pass inputs="):
        ls.split(cnn(), None, "0", neuron=1)
    mixed = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(2), nn.Linear(16, 2)).to(F64)
    with pytest.raises(ls.LiftscapeError, match=r"do not reach|shapes|columns"):
        ls.split(mixed, torch.randn(3, 1, 4, 4, dtype=F64), "0", neuron=1)


def with_norms(training: bool) -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
    )
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 36, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.to(F64).train(training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("at", ["0", "3", "7"])
def test_beside_batch_norm_outputs_are_kept_and_the_gradient_is_that_of_the_chart(at: str, training: bool) -> None:
    model, x = with_norms(training), torch.randn(12, 2, 8, 8, dtype=F64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    width = len(model.get_submodule(at).weight)
    wider = ls.embed(model, layers={at: ls.NeuronMap.copies(width, 1, (0.3, 0.9, -0.2))}, inputs=x)
    risk = ls.EmpiricalRisk(model, "mse", (x, torch.randn(12, 2, dtype=F64)))
    widened = risk.with_model(wider.model)
    (ours,), (theirs,) = risk.outputs(), widened.outputs()
    assert float((ours - theirs).detach().abs().max()) <= 1e-12 * float(ours.detach().abs().max())
    expected = wider.chart.jacobian(widened.parameters).T @ risk.gradient()
    assert float((widened.gradient() - expected).norm()) <= 1e-11 * float(expected.norm())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_batch_norm_over_another_axis_is_refused_and_inputs_are_asked_for() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).to(F64).eval()
    with pytest.raises(ls.LiftscapeError, match="pass inputs="):
        ls.split(model, None, "0", neuron=1)
    with pytest.raises(ls.LiftscapeError, match="one by one"):
        ls.split(model, torch.randn(5, 4, 3, dtype=F64), "0", neuron=1)
    with pytest.raises(ls.LiftscapeError, match="parameters of its own"):
        ls.merge(model, torch.randn(5, 3, dtype=F64), "0")
