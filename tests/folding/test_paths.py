"""Networks that go other ways for other data: a fold is compared with the network on all of them."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

import liftscape as ls

F64 = torch.float64


class TwoWays(nn.Module):
    """One activation for batches with a positive sum, another for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        nn.init.constant_(self.a.bias, 30.0)

    def forward(self, x):
        h = self.a(x)
        return self.b(self.act(h) if x.sum() > 0 else torch.sin(h))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    return [(x, x[:, :2]), (-x, x[:, :2])]


def test_a_fold_that_other_data_would_not_survive_is_taken_back() -> None:
    model = TwoWays().to(F64)
    found = ls.fold(model, batches())
    assert found.removed == ()
    assert "depends on them" in found.report[0].reason
    assert all(torch.equal(found.model(x), model(x)) for x, _ in batches())
    assert ls.fold(model, batches()[:1]).removed == ("act",)


def test_so_is_a_trim() -> None:
    model = TwoWays().to(F64)
    with torch.no_grad():
        model.a.bias[1:3] = -30.0
    found = ls.trim(model, batches())
    assert [row.removed for row in found.rows] == [0]
    assert "depends on them" in found.rows[0].reason
    assert found.operations_after == found.operations_before
    assert ls.trim(model, batches()[:1]).rows[0].removed == 2


def test_dropout_elsewhere_does_not_make_a_fold_look_wrong() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(F64).train()
    nn.init.constant_(model[1].bias, 30.0)
    assert ls.fold(model, batches()).removed == ("2",)


def test_dead_neurons_leave_beside_a_layer_that_only_the_graph_would_let_go() -> None:
    class Vain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            functional.relu(self.a(x))
            return self.c(functional.relu(self.b(functional.relu(self.a(x)))))

    model = Vain().to(F64)
    with torch.no_grad():
        model.b.bias.copy_(torch.tensor([-50.0, -50.0, 50.0, 50.0, 50.0]))
    found = ls.trim(model, batches())
    assert {row.activation: row.removed for row in found.rows} == {"relu 3": 2}
    x, _ = batches()[0]
    assert torch.allclose(found.model(x), model(x), rtol=0, atol=1e-12)


def test_a_gap_that_is_not_a_number_is_not_passed_over() -> None:
    class Broken(nn.Module):
        def forward(self, x):
            return x / 0 * 0

    gap, _ = ls.folding.output_gap(nn.Identity(), Broken(), [(x, x) for x, _ in batches()])
    assert gap != gap


def test_a_search_finds_a_difference_between_samples_that_both_agree_on() -> None:
    model = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1)).to(F64)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0.9]).expand(5, 2))
        model[0].bias.fill_(0.3)
    x = torch.tensor([[1.0, -1.0], [-0.2, 1.0]], dtype=F64)
    folded = ls.fold(model, x)
    assert folded.removed == ("1",)
    for seed in range(5):
        check = ls.checks.check_fold(folded, x, model, search=True, generator=torch.Generator().manual_seed(seed))
        assert check.rows[0].holds
        assert not check.rows[-1].holds


@pytest.mark.parametrize(
    ("between", "name"),
    [
        (lambda h: functional.softmax(h, -1), "softmax"),
        (functional.normalize, "normalize"),
        (lambda h: h.cumsum(-1), "cumsum"),
    ],
)
def test_a_call_between_two_maps_that_is_no_activation_is_named(between, name: str) -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(between(self.a(x)))

    (row,) = ls.fold(Called().to(F64), batches()).report
    assert row.reason == f"'{name}' (a call) between 'a' and 'b' is not pointwise."


def test_views_between_two_maps_are_not_named() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x).reshape(-1, 4)) + self.a(x).sum()

    assert ls.fold(Viewed().to(F64), batches()).report == ()


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (torch.zeros(2), torch.ones(2), "'0' does not take a box of shape"),
        (torch.zeros(2), torch.ones(3), r"shapes \(2,\) and \(3,\) were given"),
        (torch.tensor([0.0, float("nan"), 0]), torch.ones(3), "1 of 3 are not finite"),
        (torch.full((3,), -float("inf")), torch.ones(3), "3 of 3 are not finite"),
        (torch.tensor([0.0, 2.0, 0.0]), torch.ones(3), "1 of 3 are above"),
    ],
)
@pytest.mark.parametrize("bounds", ["linear", "interval"])
def test_boxes_that_are_none(low: torch.Tensor, high: torch.Tensor, sentence: str, bounds: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(F64)
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.fold(model, method=ls.Proved((low.double(), high.double()), bounds=bounds))


def test_data_without_numbers_and_modules_that_refuse_their_input_are_told_in_a_sentence() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(F64), batches()[0][0]
    y = torch.empty(6, 2, dtype=F64, device="meta")
    for data in ((x.to("meta"), y), (x, y)):
        with pytest.raises(ls.LiftscapeError, match="on the meta device"):
            ls.EmpiricalRisk(model, "mse", data)
    with pytest.raises(ls.LiftscapeError, match="raised on inputs"):
        ls.fold(nn.Sequential(nn.Linear(3, 4), nn.LocalResponseNorm(2), nn.Linear(4, 2)).to(F64), x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("ls.fold(net, method=ls.Proved(box=x))", "a box is two tensors (low, high) of one input"),
        ("ls.fold(net, method=ls.Proved(box=(-1.0, 1.0)))", "a box is two tensors (low, high) of one input"),
        (
            "ls.fold_within(ls.EmpiricalRisk(net, 'mse', (x, x[:, :2])), budget='0.1%')",
            "but '0.1%' of 'loss' was given",
        ),
    ],
)
def test_arguments_of_other_types_are_told_where_no_type_is_checked(call: str, sentence: str) -> None:
    # In this process the types are checked before.
    program = (
        "import torch, liftscape as ls\nx = torch.rand(4, 3)\n"
        "net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))\n"
        f"try:\n    {call}\nexcept ls.LiftscapeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert sentence in done.stdout, done.stderr
