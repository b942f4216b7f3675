"""The MNIST CNN of digit-recognizer-py: lifted by three layers, folded back, and what leaves from it as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape import data
from liftscape.outcomes import LoadError
from liftscape.studies.in_the_wild_nets import trained_mnist_cnn

from .nets import ADVICE


@pytest.fixture(scope="module")
def network() -> nn.Module:
    model = trained_mnist_cnn()
    if isinstance(model, str):
        pytest.skip(f"{model}, or {ADVICE}")
    return model


@pytest.fixture(scope="module")
def digits() -> tuple[list[Tensor], Tensor]:
    try:
        images, labels = data.mnist("test")
    except LoadError as error:
        pytest.skip(f"{error} {ADVICE}")
    return list(((images - 0.1307) / 0.3081).split(500)), labels


def outputs(model: nn.Module, batches: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(batch) for batch in batches])


@pytest.mark.long
def test_three_lifted_layers_leave_again_and_no_label_changes(
    network: nn.Module, digits: tuple[list[Tensor], Tensor]
) -> None:
    batches, labels = digits
    lifted = ls.lift(network, batches, ["3", "10", "12"])
    assert len(lifted.sites) == 3
    folded = ls.fold(lifted, batches)
    assert set(folded.removed) == {"3.activation", "10.activation", "12.activation"}
    assert folded.parameters_after == sum(parameter.numel() for parameter in network.parameters()) == 390_410
    before = outputs(network, batches)
    for model in (lifted.model, folded.model):
        after = outputs(model, batches)
        assert float((after - before).abs().max()) <= 1e-5 * float(before.abs().max())
        assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    assert int((before.argmax(dim=1) == labels).sum()) == 9906


@pytest.mark.long
def test_what_leaves_exactly_from_the_network_itself(
    network: nn.Module, digits: tuple[list[Tensor], Tensor], record_property: Any
) -> None:
    batches, _ = digits
    trimmed, folded = ls.trim(network, batches), ls.fold(network, batches)
    neurons = sum(row.removed for row in trimmed.rows)
    operations = trimmed.operations_before - trimmed.operations_after
    record_property("removed", {"neurons": neurons, "operations": operations, "layers": folded.removed})
    # An own count: neurons of the one layer between two maps of one kind that are positive for no digit.
    with torch.no_grad():
        alive = torch.stack([(network[:11](batch) > 0).any(dim=0) for batch in batches]).any(dim=0)
    assert neurons == int((~alive).sum())
    assert folded.removed == ()
    before, after = outputs(network, batches), outputs(trimmed.model, batches)
    assert float((after - before).abs().max()) <= 1e-5 * float(before.abs().max())
    assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    print(f"neurons {neurons} of {[row.neurons for row in trimmed.rows]}, operations {operations}")
