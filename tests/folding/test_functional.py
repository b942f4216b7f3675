"""Layers whose activations are calls of functions fold, trim and are searched like modules, and come out as modules."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls
from liftscape.linearity import find_runs, foldable

F64 = torch.float64
SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda h: h.relu(),
    "in place": lambda h: functional.relu(h, inplace=True),
    "leaky_relu": lambda h: functional.leaky_relu(h, 0.3),
    "elu": lambda h: functional.elu(h, alpha=0.7),
    "hardtanh": lambda h: functional.hardtanh(h, -90.0, 90.0),
    "gelu": functional.gelu,
}


class Net(nn.Module):
    """Maps of both kinds, a norm, a branch in Python, a residual, and only calls for activations."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)
        self.fc1, self.fc2, self.out = nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.activation = activation

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        h = self.conv2(self.activation(self.norm(self.conv1(x))))
        if h.shape[1] > 1:
            h = h * scale
        h = torch.tanh(h).view(x.size(0), -1)
        h = functional.dropout(self.fc2(self.activation(self.fc1(h))), 0.5, self.training)
        return self.out(h + 1)


def made(activation: Callable[[Tensor], Tensor] = torch.relu, shift: float = 50.0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = Net(activation).to(F64).eval()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.bias.add_(shift)
        model.fc1.bias.add_(shift)
    return model, torch.randn(9, 1, 6, 6, dtype=F64)


@pytest.mark.parametrize("name", SPELLINGS)
def test_exact_folds_keep_outputs_at_every_batch_size(name: str) -> None:
    model, x = made(SPELLINGS[name])
    before = copy.deepcopy(model.state_dict())
    folded = ls.fold(model, x)
    assert len(folded.removed) == 2
    assert folded.parameters_after < folded.parameters_before
    for count in (1, 2, 7, 9):
        with torch.no_grad():
            expected = model(x[:count])
            assert float((folded.model(x[:count]) - expected).abs().max()) <= 1e-12 * float(expected.abs().max())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert set(dict(folded.model.named_parameters())) <= set(dict(model.named_parameters()))
    assert not any(each.activation in folded.removed for each in find_runs(folded.model, x))
    assert not any(isinstance(module, nn.Identity) for module in folded.model.modules())


def test_nothing_leaves_from_what_is_not_linear_and_the_class_stays() -> None:
    model, x = made(shift=0.0)
    folded = ls.fold(model, x)
    assert folded.removed == ()
    assert type(folded.model) is Net
    rows = {row.activation: row.reason for row in folded.report}
    assert list(rows) == ["relu", "relu 2"]
    assert all("on no single affine piece" in reason for reason in rows.values())


def test_a_lift_in_a_functional_network_folds_back_to_its_own_class() -> None:
    model, x = made(shift=0.0)
    lifted = ls.lift(model, x, ["fc2", "conv2"], activation="elu")
    folded = ls.fold(lifted, x)
    assert type(folded.model) is Net
    assert set(folded.removed) == {"fc2.activation", "conv2.activation"}
    for key, value in model.state_dict().items():
        torch.testing.assert_close(folded.model.state_dict()[key], value, rtol=1e-12, atol=1e-12)


def test_least_squares_folds_are_the_best_affine_maps() -> None:
    model, x = made(functional.gelu, shift=0.0)
    table = {row.name: row for row in ls.layer_linearity(model, x).rows}
    folded = ls.fold(model, x, at="gelu 2", method="least-squares")
    assert folded.report[0].r2 == pytest.approx(table["gelu 2"].r2, abs=1e-9)
    with torch.no_grad():
        h = torch.tanh(model.conv2(functional.gelu(model.norm(model.conv1(x))))).view(9, -1)
        z = model.fc2(functional.gelu(model.fc1(h)))
        design = torch.cat([h, torch.ones(9, 1, dtype=F64)], dim=1)
        best = design @ torch.linalg.pinv(design) @ z
        torch.testing.assert_close(folded.model(x), model.out(best + 1), rtol=1e-7, atol=1e-7)


def test_dead_neurons_of_called_activations_leave() -> None:
    model, x = made(shift=0.0)
    with torch.no_grad():
        model.fc1.bias[:5] = -100.0
        h = torch.tanh(model.conv2(torch.relu(model.norm(model.conv1(x))))).view(9, -1)
        dead = int((model.fc1(h) < 0).all(dim=0).sum())
    trimmed = ls.trim(model, x)
    assert {row.activation: row.removed for row in trimmed.rows}["relu 2"] == dead >= 5
    with torch.no_grad():
        torch.testing.assert_close(trimmed.model(x), model(x), rtol=1e-12, atol=1e-12)
    assert trimmed.model.fc1.weight.shape == (8 - dead, 48)


def test_search_and_inspection_see_calls() -> None:
    model, x = made(shift=0.0)
    with torch.no_grad():
        model.fc1.bias.add_(50.0)
    y = model(x).detach() + 0.1
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    search = ls.fold_within(risk, budget=0.0)
    assert "relu 2" in search.removed
    uses = {use.activation: use for use in ls.inspect(risk, at=()).uses}
    assert uses["relu 2"].folds_exactly
    assert uses["relu 2"].parameters_saved > 0
    assert type(ls.fold_within(risk, budget=0.0, at=[]).model) is Net


@pytest.mark.parametrize("how", ["exact", "least-squares"])
def test_what_comes_out_is_a_normal_module(how: str) -> None:
    model, x = made()
    folded = ls.fold(model, x, at=["relu", "relu 2"], method=how).model
    with torch.no_grad():
        expected = folded(x)
        assert torch.equal(copy.deepcopy(folded)(x), expected)
        buffer = io.BytesIO()
        torch.save(folded, buffer)
        buffer.seek(0)
        assert torch.equal(torch.load(buffer, weights_only=False)(x), expected)
        assert copy.deepcopy(folded).float()(x.float()).dtype is torch.float32
        torch.testing.assert_close(torch.export.export(folded, (x,)).module()(x), expected, rtol=1e-12, atol=1e-12)
    assert not folded.training
    folded.train()
    # Dropout drops again, and gradients reach every parameter.
    assert not torch.equal(folded(x), folded(x))
    folded(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in folded.parameters())


class Decomposed(nn.Module):
    """One activation that torch.export writes as several operations, and one that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.middle(functional.tanhshrink(self.first(x)))))


def test_a_call_that_the_graph_names_otherwise_stays_and_the_others_leave() -> None:
    torch.manual_seed(0)
    model, x = Decomposed().to(F64), torch.rand(6, 3, dtype=F64)
    with torch.no_grad():
        model.first.bias.add_(60)
        model.middle.bias.add_(300)
    folded = ls.fold(model, x)
    assert folded.removed == ("relu",)
    assert folded.report[0].reason == "the call 'tanhshrink' is no operation of its own in torch.export's graph."
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-12, atol=1e-12)


class Branch(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.last, self.way = nn.Linear(3, 3), nn.Linear(3, 3), way

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        if self.way == "data" and h.mean() > 0:
            h = h + 0
            return self.last(h)
        if self.way == "twice":
            return self.last(h) + h
        if self.way == "shared":
            return self.last(torch.relu(self.last(h)))
        if self.way == "softmax":
            return self.last(h.softmax(dim=-1))
        return self.last(h)


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("twice", "the output of 'relu' is read more than once"),
        ("shared", "'last' is called several times"),
        ("softmax", "'softmax' (a call) between 'first' and 'last' is not pointwise"),
    ],
)
def test_refusals_name_what_is_in_the_way(way: str, text: str) -> None:
    torch.manual_seed(0)
    model, x = Branch(way).to(F64), torch.rand(6, 3, dtype=F64)
    with torch.no_grad():
        model.first.bias.add_(50)
    assert text in ls.fold(model, x).report[0].reason
    with pytest.raises(ls.LiftscapeError, match="cannot leave by least squares"):
        ls.fold(model, x, at="relu", method="least-squares")


class Sized(nn.Module):
    """Its code branches on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if float(x.sum()) > 1e30:
            h = h * 2
        return self.last(torch.relu(h))


def test_a_network_that_torch_export_cannot_follow_is_refused_in_a_sentence() -> None:
    model, x = Sized().to(F64), torch.rand(6, 3, dtype=F64)
    with torch.no_grad():
        model.first.bias.add_(50)
    reason = ls.fold(model, x).report[0].reason
    assert reason.startswith("torch.export makes no graph of Sized")
    assert reason.endswith("as modules.")


def test_modules_between_maps_that_are_not_pointwise_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3), nn.ReLU(), nn.Softmax(-1), nn.Linear(3, 2))
    reasons = [row.reason for row in ls.fold(model, torch.randn(5, 3)).report]
    assert reasons == [
        "'1' (LayerNorm) between '0' and '2' is not pointwise.",
        "'4' (Softmax) between '2' and '5' is not pointwise.",
    ]
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2))
    reason = ls.fold(model, torch.randn(5, 3)).report[0].reason
    assert reason == "'2' (Dropout) between '0' and '3' drops at random; call eval()."
    assert foldable(model.eval(), torch.randn(5, 3))[1][0].refusal is None


class OneActivation(nn.Module):
    """One activation module for all layers, as many networks have it; a function of its name is called too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 3)
        self.out, self.relu = nn.Linear(3, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.middle(self.relu(self.first(x))))
        return self.out(functional.relu(self.last(h)))


def test_calls_of_one_activation_module_are_layers_of_their_own() -> None:
    torch.manual_seed(0)
    model, x = OneActivation().to(F64), torch.randn(20, 3, dtype=F64)
    assert [row.name for row in ls.layer_linearity(model, x).rows] == ["relu", "relu 2", "relu()"]
    assert [row.neurons for row in ls.layer_linearity(model, x).rows] == [4, 6, 3]
    with torch.no_grad():
        model.middle.bias.add_(50)
    folded = ls.fold(model, x, at="relu 2")
    assert folded.removed == ("relu 2",)
    with torch.no_grad():
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-12, atol=1e-12)
    left = [row.name for row in ls.layer_linearity(folded.model, x).rows]
    assert left == ["relu", "relu()"]


def encoder() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).to(F64).eval()
    return model, torch.randn(12, 6, 8, dtype=F64)


def test_an_mlp_block_of_a_transformer_layer_folds_by_least_squares() -> None:
    model, x = encoder()
    folded = ls.fold(model, x, at="layers.0.gelu", method="least-squares")
    assert folded.parameters_before - folded.parameters_after == 2 * 8 * 16 + 16 - 64
    with torch.no_grad():
        first = model.layers[0]
        h = first.norm1(x + first.self_attn(x, x, x, need_weights=False)[0]).reshape(-1, 8)
        z = first.linear2(functional.gelu(first.linear1(h)))
        design = torch.cat([h, torch.ones(len(h), 1, dtype=F64)], dim=1)
        # LayerNorm leaves one direction of the features out, in which any map will do.
        best = design @ torch.linalg.pinv(design, rtol=1e-9) @ z
        expected = model.layers[1](first.norm2(h + best).reshape(x.shape))
        torch.testing.assert_close(folded.model(x), expected, rtol=1e-6, atol=1e-6)
        for count, length in ((1, 6), (5, 3)):
            assert folded.model(x[:count, :length]).shape == (count, length, 8)
        compiled = torch.compile(folded.model, backend="eager")
        torch.testing.assert_close(compiled(x), folded.model(x), rtol=1e-12, atol=1e-12)
    torch.compiler.reset()


def test_projections_that_attention_uses_without_a_call_are_refused_with_the_reason() -> None:
    model, x = encoder()
    with pytest.raises(ls.LiftscapeError, match=r"'layers.0.self_attn.out_proj': it is never called as a module"):
        ls.lift(model, x, "layers.0.self_attn.out_proj")
    lifted = ls.lift(model, x, ["layers.0.linear1", "layers.1.linear2"])
    assert model.layers[0].activation_relu_or_gelu == 2
    with torch.no_grad():
        # Without the context of a risk, where torch would take its fast path.
        torch.testing.assert_close(lifted.model(x), model(x), rtol=1e-11, atol=1e-11)


def test_a_map_that_is_also_called_in_vain_is_refused_by_name() -> None:
    class Vain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 6)
            self.c = nn.Linear(6, 2)

        def forward(self, x):
            functional.relu(self.a(x))
            return self.c(functional.relu(self.b(functional.relu(self.a(x)))))

    model = Vain().double()
    nn.init.constant_(model.b.bias, 50.0)
    rows = {row.activation: row for row in ls.fold(model, torch.randn(9, 4).double()).report}
    assert "called several times" in rows["relu 2"].reason
    assert rows["relu 3"].folded


def test_hooks_and_other_uses_of_a_weight_keep_a_layer() -> None:
    class Penalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.act(self.a(x))) + self.a.weight.sum()

    x = torch.randn(8, 3).double()
    model = Penalised().double()
    nn.init.constant_(model.a.bias, 50.0)
    (row,) = ls.fold(model, x).report
    assert not row.folded
    assert "are read by 'sum' too" in row.reason
    hooked = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    nn.init.constant_(hooked[0].bias, 50.0)
    hooked[1].register_forward_hook(lambda _module, _args, output: 2 * output)
    (row,) = ls.fold(hooked, x).report
    assert not row.folded
    assert "forward hooks" in row.reason


def test_what_is_written_between_two_maps_is_seen() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = functional.relu(self.a(x))
            h[:, 0] = 1.0
            return self.b(h)

    model, x = Written().double(), torch.randn(8, 3).double()
    nn.init.constant_(model.a.bias, 50.0)
    folded = ls.fold(model, x)
    assert folded.removed == ()
    assert torch.equal(folded.model(x), model(x))


def test_a_negative_loss_has_a_budget_of_its_size() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1)).double(), torch.randn(40, 3).double()
    risk = ls.EmpiricalRisk(
        model, lambda output, y: (output - y).square().mean() - 10, (x, torch.zeros(40, 1).double())
    )
    found = ls.fold_within(risk, budget=0.5)
    assert found.steps[0].within
    assert found.removed == ("1",)
