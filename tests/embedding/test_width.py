"""Width embeddings: outputs, gradient, and the exact inertia of a split; the toy of arXiv 2505.13582."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def deep() -> nn.Module:
    return ls.nets.mlp((3, 3, 3, 2))


def planted(model: nn.Module, kind: str, generator: torch.Generator) -> ls.EmpiricalRisk:
    inputs = torch.randn(150, 3, generator=generator, dtype=F64)
    targets = ls.plant_critical_point(model, inputs, kind=kind, generator=generator)
    return ls.EmpiricalRisk(model, "mse", (inputs, targets))


def inertia_at(risk: ls.EmpiricalRisk) -> "ls.curvature.Inertia":
    return ls.curvature.inertia(risk.hessian(), gradient_norm=float(risk.gradient().norm()))


@pytest.mark.parametrize("share", [-0.5, 0.25, 0.5, 1.5, 0.0, 1.0])
@pytest.mark.parametrize("at", ["0", "2"])
@pytest.mark.parametrize("kind", ["minimum", "saddle"])
def test_a_split_keeps_outputs_and_criticality_and_its_inertia_is_predicted(
    share: float, at: str, kind: str, generator: torch.Generator
) -> None:
    risk = planted(deep(), kind, generator)
    wider = ls.split(risk.model, None, at, neuron=1, share=share)
    widened = risk.with_model(wider.model)
    (outputs,), (kept,) = risk.outputs(), widened.outputs()
    assert float((outputs - kept).abs().max()) <= 1e-12 * float(outputs.abs().max())
    J = wider.chart.jacobian(widened.parameters)
    assert float((widened.gradient() - J.T @ risk.gradient()).norm()) <= 1e-13
    measured = inertia_at(widened)
    assert measured.decided
    predicted = wider.predict_inertia(inertia_at(risk), risk)
    assert predicted.exact
    assert predicted.holds(measured)
    assert wider.predict_inertia(inertia_at(risk)).holds(measured)


@pytest.mark.parametrize("share", [0.3, -0.5])
def test_away_from_critical_points_the_gradient_is_that_of_the_chart(share: float, generator: torch.Generator) -> None:
    model = deep()
    data = (torch.randn(20, 3, generator=generator, dtype=F64), torch.randn(20, 2, generator=generator, dtype=F64))
    risk = ls.EmpiricalRisk(model, "mse", data)
    wider = ls.split(ls.split(model, None, "0", neuron=0, share=share), None, "2", neuron=2, share=0.4)
    widened = risk.with_model(wider.model)
    expected = wider.chart.jacobian(widened.parameters).T @ risk.gradient()
    assert float((widened.gradient() - expected).norm()) <= 1e-12 * float(risk.gradient().norm())


def test_a_split_minimum_can_be_a_strict_saddle_and_stays_one_when_lifted(generator: torch.Generator) -> None:
    risk = planted(deep(), "minimum", generator)
    inputs, _ = next(iter(risk.batches))
    splits = [
        ls.split(risk.model, None, "2", neuron=neuron, share=share) for neuron in range(3) for share in (0.5, -0.5)
    ]
    wider = next(own for own in splits if inertia_at(risk.with_model(own.model)).negative > 0)
    deeper = ls.lift(wider, inputs, "0", activation="elu")
    measured = inertia_at(risk.with_model(deeper.model))
    assert measured.decided
    assert measured.negative > 0
    assert deeper.predict_inertia(inertia_at(risk), risk).holds(measured)


def test_a_null_neuron_keeps_outputs_and_criticality(generator: torch.Generator) -> None:
    risk = planted(deep(), "minimum", generator)
    wider = ls.add_null_neuron(risk.model, None, "2", generator=generator)
    widened = risk.with_model(wider.model)
    (outputs,), (kept,) = risk.outputs(), widened.outputs()
    assert torch.equal(outputs, kept)
    assert float(widened.gradient().norm()) <= 1e-13
    assert wider.predict_inertia(inertia_at(risk)).holds(inertia_at(widened))


def toy() -> ls.EmpiricalRisk:
    """a·tanh(w x) with targets under which w = 1.0258, a = 1 is exactly critical, as mean over the four samples."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False)).to(F64)
    with torch.no_grad():
        model[0].weight.fill_(1.0258)
        model[2].weight.fill_(1.0)
    x = torch.tensor([0.25, 1.0, 4.0, 16.0], dtype=F64)[:, None]
    rough = torch.tensor([0.9999973877, -0.5835368414, 0.2999052557, -0.1000951927], dtype=F64)
    phi = torch.tanh(1.0258 * x[:, 0])
    jacobian = torch.stack([phi, x[:, 0] * (1 - phi**2)])
    residual = rough - torch.linalg.lstsq(jacobian.T, rough[:, None]).solution[:, 0] @ jacobian
    return ls.EmpiricalRisk(model, "mse", (x, (phi - residual)[:, None]))


def test_the_toy_has_the_stated_risk_and_its_splits_the_stated_eigenvalues() -> None:
    risk = toy()
    # The toy sums squares over four samples; mse takes their mean.
    assert 4 * float(risk.value()) == pytest.approx(1.4404722, abs=1e-6)
    lowest = lambda share: (
        4
        * float(
            torch.linalg.eigvalsh(
                risk.with_model(ls.split(risk.model, None, "0", neuron=0, share=share).model).hessian().to_dense()
            )[0]
        )
    )
    assert lowest(0.25) == pytest.approx(0, abs=1e-9)
    assert lowest(0.5) == pytest.approx(0, abs=1e-9)
    assert lowest(-0.5) == pytest.approx(-0.272, abs=1e-3)
    assert lowest(1.5) == pytest.approx(-0.272, abs=1e-3)


@pytest.mark.parametrize(
    ("at", "neuron", "sentence"),
    [
        ("0", 7, "neuron must be one of the 3 outputs of '0'"),
        ("4", 0, "ends the network"),
        ("9", 0, "there is none of that name"),
    ],
)
def test_refusals(at: str, neuron: int, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.split(deep(), None, at, neuron=neuron)


class Pair(nn.Module):
    """A network of two inputs that takes batches of six alone."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(3, 4, dtype=F64), nn.Linear(4, 2, dtype=F64)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert len(a) == 6
        return self.last(torch.tanh(self.hidden(a + b)))


def test_several_inputs_and_a_fixed_batch_size() -> None:
    net, pair = Pair(), (torch.randn(6, 3, dtype=F64), torch.randn(6, 3, dtype=F64))
    data = (pair, torch.zeros(6, 2, dtype=F64))
    wider = ls.split(net, data, "hidden", neuron=1).model
    assert float((wider(*pair) - net(*pair)).detach().abs().max()) < 1e-15
    assert ls.merge(wider, data, "hidden").neurons_after == 4


@pytest.mark.parametrize("ask", [lambda net, x: ls.split(net, x, "0", neuron=1), lambda net, x: ls.merge(net, x, "0")])
def test_inputs_that_do_not_fit_are_named(ask: Callable[[nn.Module, Tensor], object]) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(
        ls.LiftscapeError, match=r"^Sequential raised on inputs of shape \(5, 7\).*give inputs that fit it\.$"
    ):
        ask(net, torch.ones(5, 7))
