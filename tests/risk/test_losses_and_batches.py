"""Losses and batches that torch would take in silence, and models that keep computed weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

import liftscape as ls

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (torch.zeros(6), r"cross_entropy needs class indices \(integers\) of shape \(6,\), or probabilities of shape"),
        (torch.zeros(6, 1, dtype=torch.int64), r"but targets are torch.int64 of shape \(6, 1\)"),
    ],
)
def test_cross_entropy_says_what_targets_it_needs(targets: Tensor, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.EmpiricalRisk(linear(), "cross_entropy", (X, targets))


def test_class_indices_of_any_integer_dtype_and_probabilities_agree() -> None:
    classes = torch.tensor([0, 1, 1, 0, 1, 0])
    values = [
        float(ls.EmpiricalRisk(linear(), "cross_entropy", (X, targets)).value())
        for targets in (classes, classes.to(torch.int32), classes.to(torch.uint8), functional.one_hot(classes).float())
    ]
    assert values == pytest.approx([values[0]] * 4, rel=1e-6)


@pytest.mark.parametrize("loss", [nn.MSELoss(), functional.mse_loss, nn.L1Loss()])
def test_torchs_own_losses_do_not_broadcast_in_silence(loss: object) -> None:
    with pytest.raises(
        ls.LiftscapeError, match=r"would broadcast outputs of shape \(6, 2\) and targets of shape \(6, 1\)"
    ):
        ls.EmpiricalRisk(linear(), loss, (X, torch.zeros(6, 1)))


def test_a_loss_that_raises_is_quoted_with_the_shapes() -> None:
    with pytest.raises(
        ls.LiftscapeError, match=r"the loss raised on outputs of shape \(6, 2\) and targets of shape \(6,\)"
    ):
        ls.EmpiricalRisk(linear(), nn.CrossEntropyLoss(), (X, torch.full((6,), 5)))


def test_an_empty_batch_among_others_is_named() -> None:
    batches = [(X, torch.zeros(6, 2)), (X[:0], torch.zeros(0, 2))]
    with pytest.raises(ls.LiftscapeError, match="batch 1 of 2 holds no samples; leave it out"):
        ls.EmpiricalRisk(linear(), "mse", batches)


def test_a_pruned_model_keeps_its_computed_weight_and_moves() -> None:
    model = linear()
    prune.random_unstructured(model, "weight", amount=0.5)
    kept = model.weight
    risk = ls.EmpiricalRisk(model, "mse", (X, torch.zeros(6, 2)))
    risk.gradient()
    risk.hessian() @ torch.ones(risk.size)
    assert model.weight is kept
    moved = risk.at({name: tensor + 1 for name, tensor in risk.parameters.items()})
    assert moved.model is not model
    assert float(moved.value()) != float(risk.value())
    torch.testing.assert_close(model.weight, kept, rtol=0, atol=0)
