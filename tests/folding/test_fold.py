"""The exact fold leads back from every lift, and leaves what it may not touch."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def names(model: nn.Module) -> list[tuple[str, str]]:
    return [(name, type(module).__name__) for name, module in model.named_modules()]


@given(
    activation=st.sampled_from(["elu", "relu", "leaky_relu", "hardtanh", "gelu"]),
    sites=st.lists(st.sampled_from(["0", "2", "4"]), min_size=1, max_size=3, unique=True),
    layers=st.integers(1, 3),
    nested=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_folding_a_lift_gives_back_maps_and_structure(
    activation: str, sites: list[str], layers: int, nested: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = ls.nets.mlp((3, 3, 3, 2), generator=generator)
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    embedding = ls.lift(model, inputs, sites, width=[4] * layers, activation=activation, generator=generator)
    if nested:
        embedding = ls.lift(embedding, inputs, f"{sites[0]}.B", width=5, activation="leaky_relu", generator=generator)
    before = copy.deepcopy(embedding.model.state_dict())
    folded = ls.fold(embedding, inputs)
    assert len(folded.removed) == layers * len(sites) + nested
    assert names(folded.model) == names(model)
    size = 1e2 if activation == "gelu" else 1
    for name, tensor in model.state_dict().items():
        assert float((folded.model.state_dict()[name] - tensor).abs().max()) <= size * 1e-12
    assert all(torch.equal(before[name], tensor) for name, tensor in embedding.model.state_dict().items())
    again = ls.fold(folded.model, inputs)
    assert again.removed == ()


def test_dead_neurons_leave_into_the_bias(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(F64)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([50.0, -50.0, 50.0, -50.0]))
    inputs = torch.randn(20, 3, generator=generator, dtype=F64)
    folded = ls.fold(model, inputs)
    assert (folded.report[0].linear, folded.report[0].dead) == (4, 2)
    assert folded.parameters_after == 8 < folded.parameters_before
    with torch.no_grad():
        torch.testing.assert_close(folded.model(inputs), model(inputs), rtol=1e-12, atol=1e-12)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.first(x))
        return self.last(h) + h


def test_what_is_read_elsewhere_or_is_nonlinear_stays() -> None:
    model = ReadTwice().to(F64)
    with torch.no_grad():
        model.first.bias.fill_(50.0)
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    row = ls.fold(model, inputs).report[0]
    assert not row.folded
    assert "read more than once" in row.reason
    plain = ls.nets.mlp((3, 3, 2))
    assert ls.fold(plain, inputs).removed == ()


def test_refusals(generator: torch.Generator) -> None:
    inputs = torch.randn(20, 3, generator=generator, dtype=F64)
    with pytest.raises(ls.LiftscapeError, match="are not activations between two affine maps"):
        ls.fold(ls.nets.mlp((3, 3, 2)), inputs, at="7")
    with pytest.raises(ls.LiftscapeError, match="give inputs, or a risk"):
        ls.fold(ls.nets.mlp((3, 3, 2)))


def test_linearity_of_lifted_and_of_nonlinear_layers(generator: torch.Generator) -> None:
    model = ls.nets.mlp((3, 3, 2))
    inputs = torch.randn(30, 3, generator=generator, dtype=F64)
    lifted = ls.lift(model, inputs, "2", width=4, activation="elu", generator=generator).model
    rows = {row.name: row for row in ls.layer_linearity(lifted, inputs).rows}
    assert rows["2.activation"].exactly_linear
    assert rows["2.activation"].min_correlation == pytest.approx(1, abs=1e-9)
    assert not rows["1"].exactly_linear
    assert rows["1"].occupancy == 0


class Squared(nn.Linear):
    """A Linear by class that is none by what it computes."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).square()


def test_a_map_with_a_forward_of_its_own_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Squared(3, 2)).to(F64)
    with torch.no_grad():
        model[0].bias.fill_(50.0)
    row = ls.fold(model, torch.randn(20, 3, dtype=F64)).report[0]
    assert not row.folded
    assert "a Squared with a forward of its own" in row.reason


def test_a_fold_of_nothing_is_a_copy() -> None:
    model, x = ls.nets.mlp((3, 4, 2)), torch.randn(9, 3, dtype=F64)
    for how in ("exact", "least-squares"):
        folded = ls.fold(model, x, at=[], method=how).model
        assert folded is not model
        assert folded[0].weight is not model[0].weight


@pytest.mark.parametrize("middle", [nn.BatchNorm1d(6), nn.PReLU(6, init=1.0)])
def test_channels_on_another_axis_than_the_neurons_are_not_taken_for_them(middle: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.ReLU(), nn.Linear(6, 2)).double().eval()
    with torch.no_grad():
        (middle.bias if isinstance(middle, nn.BatchNorm1d) else model[0].bias).fill_(30.0)
    x = torch.randn(5, 6, 4, dtype=torch.float64)
    folded = ls.fold(model, x)
    assert folded.removed == ()
    assert "axis 1" in folded.report[0].reason or "not pointwise" in folded.report[0].reason
    assert torch.equal(folded.model(x), model(x))


def test_a_row_says_where_its_layer_is_linear() -> None:
    """Exact folds hold on the hull of the features, which convex mixtures of them show; proved ones in the box."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    x = torch.randn(20, 2, dtype=torch.float64)
    net[0].bias.data = 0.1 - (x @ net[0].weight.T).amin(dim=0).detach()
    folded = ls.fold(net, x)
    assert folded.report[0].reason.endswith("on the convex hull of the features that reach the layer.")
    mixtures = torch.softmax(5 * torch.randn(200, 20, dtype=torch.float64), dim=1) @ x
    torch.testing.assert_close(folded.model(mixtures), net(mixtures), rtol=1e-12, atol=1e-12)
    proved = ls.fold(net, method=ls.Proved((x[0] - 1e-3, x[0] + 1e-3)))
    assert proved.report[0].reason == "every neuron stays on one affine piece for every input of the box."


@pytest.mark.parametrize("frozen", [(), ("0",), ("2",), ("0", "2", "4")])
def test_what_is_frozen_stays_so_and_counts(frozen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).to(F64)
    x = torch.randn(30, 3, dtype=F64)
    net[0].bias.data += 9
    # Three neurons of the second layer on both pieces, one dead.
    net[2].bias.data -= net[:3](x).detach().median(dim=0).values
    net[2].bias.data[0] = -99
    for name in frozen:
        net.get_submodule(name).requires_grad_(False)
    folded = ls.fold(net, x)
    assert folded.removed == ("1",)
    assert (folded.parameters_before, folded.parameters_after) == (46, 26)
    merged, last = (folded.model.get_submodule(name) for name in ("2", "4"))
    assert all(tensor.requires_grad == (frozen not in {("0", "2", "4")}) for tensor in merged.parameters())
    assert all(tensor.requires_grad == ("4" not in frozen) for tensor in last.parameters())
    trimmed = ls.trim(net, x).model
    assert len(trimmed.get_submodule("2").weight) == 3
    given = {name: tensor.requires_grad for name, tensor in net.named_parameters()}
    assert {name: tensor.requires_grad for name, tensor in trimmed.named_parameters()} == given
