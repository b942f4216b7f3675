"""The way down: predictions against what is measured, and against the closed forms computed apart."""

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from tests.escaping.stuck import F64, classes, planted, planted_cnn

ACTIVATIONS = ("relu", "elu", "leaky_relu", "gelu", "hardtanh")


def deviations(escape: ls.Escape, h: Tensor) -> Tensor:
    """Φ, from the neurons' own record and torch's activations."""
    sigma = {"ReLU()": torch.relu, "ELU(alpha=1.0)": nn.functional.elu}.get(escape.activation)
    sigma = (
        sigma
        or {"LeakyReLU": nn.LeakyReLU(), "GELU": nn.GELU(), "Hardtanh": nn.Hardtanh()}[escape.activation.split("(")[0]]
    )
    columns = []
    for neuron in escape.neurons:
        t = h @ torch.tensor(neuron.direction, dtype=F64) + neuron.bias
        columns.append(sigma(t) - neuron.piece.slope * t - neuron.piece.intercept)
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("block", range(4))
def test_at_the_output_the_prediction_is_what_is_measured_on_a_hundred_stuck_networks(block: int) -> None:
    for seed in range(25 * block, 25 * block + 25):
        risk = planted(seed)
        last = str(len(risk.model) - 1)
        count = 1 + seed % 3
        found = ls.escape(risk, at=last, activation=ACTIVATIONS[seed % 5], neurons=count, starts=8)
        assert found.status == "found", seed
        assert found.exact
        assert found.predicted_decrease >= 1e-9 * found.value
        assert found.decrease > 0
        assert found.decrease == pytest.approx(found.predicted_decrease, rel=1e-6), seed
        # The closed form: h = 2/(nD), all out-weights together.
        x, y = next(iter(risk.batches))
        h = risk.model[:-1](x).detach()
        g = 2 * (risk.model(x).detach() - y) / y.numel()
        phi = deviations(found, h)
        V = phi.T @ g
        expected = float((V * (torch.linalg.pinv(phi.T @ phi, rtol=1e-10) @ V)).sum()) / (2 * 2 / y.numel())
        assert found.predicted_decrease == pytest.approx(expected, rel=1e-6), seed


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("where", ["output", "inside", "classes", "inside classes", "convolution"])
def test_errors_of_the_prediction_fall_tenfold_and_with_the_second_order_a_hundredfold(
    where: str, activation: str
) -> None:
    make, at, step = {
        "output": (lambda: planted(1), "2", 0.01),
        "inside": (lambda: planted(1), "0", 0.01),
        "classes": (classes, "0", 0.01),
        "inside classes": (lambda: classes((2, 2, 3), 1), "0", 0.01),
        "convolution": (planted_cnn, "2", 0.1),
    }[where]
    stuck = make()
    found = ls.escape(stuck, at=at, activation=activation, starts=8)
    assert found.status == "found"
    assert found.decrease > 0
    errors = []
    for r in (step, step / 10):
        there = found.path(found.path.departure + r * (1 - found.path.departure))
        fallen = found.value - float(stuck.with_model(there).value())
        first, second = -r * found.slope, -r * found.slope - r**2 * found.curvature / 2
        errors.append((abs(fallen / first - 1), abs(fallen / second - 1)))
    assert 9 < errors[0][0] / errors[1][0] < 11
    if found.exact:
        assert max(error[1] for error in errors) < 1e-8
    else:
        assert 80 < errors[0][1] / errors[1][1] < 125


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_of_a_map_that_is_called_twice_the_second_call_reads_what_the_first_one_moved(activation: str) -> None:
    draws = torch.Generator().manual_seed(3)
    net = ls.nets.shared_map_net(2, 3, 2, "tanh", generator=draws)
    x, y = (torch.randn(60, 2, generator=torch.Generator().manual_seed(seed), dtype=F64) for seed in (1, 2))
    risk = ls.EmpiricalRisk(net, "mse", (x, y))
    found = ls.escape(risk, at="shared", activation=activation, starts=8, tolerance=torch.inf)
    errors = []
    for r in (0.03, 0.003):
        there = found.path(found.path.departure + r * (1 - found.path.departure))
        fallen = found.value - float(risk.with_model(there).value())
        errors.append(abs(fallen / (-r * found.slope - r**2 * found.curvature / 2) - 1))
    assert errors[0] > 70 * errors[1]


@pytest.mark.parametrize("seed", range(4))
def test_cross_entropy_at_the_output_falls_by_what_is_guaranteed(seed: int) -> None:
    risk = classes(seed=seed)
    found = ls.escape(risk, neurons=1 + seed % 2, activation=ACTIVATIONS[seed])
    x, y = next(iter(risk.batches))
    g = (risk.model(x).detach().softmax(1) - nn.functional.one_hot(y, 3)) / len(x)
    phi = deviations(found, x)
    V = phi.T @ g
    guaranteed = len(x) * float((V * (torch.linalg.pinv(phi.T @ phi) @ V)).sum())
    assert found.guaranteed_decrease == pytest.approx(guaranteed, rel=1e-9)
    assert found.decrease >= guaranteed > 0
