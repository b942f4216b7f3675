"""Maps at which no layer can be inserted, each with its reason, and models whose features are not a function."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import liftscape as ls


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def inputs() -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def masked() -> nn.Module:
    model = chain()
    prune.random_unstructured(model[2], "weight", amount=0.5)
    return model


def masked_bias() -> nn.Module:
    model = chain()
    prune.random_unstructured(model[2], "bias", amount=0.5)
    return model


def spectral() -> nn.Module:
    model = chain()
    parametrizations.spectral_norm(model[2])
    return model.eval()


def hooked() -> nn.Module:
    model = chain()
    model[2].register_forward_hook(lambda _module, _args, output: 2 * output)
    return model


def masked_gradient() -> nn.Module:
    model = chain()
    model[2].weight.register_hook(lambda gradient: gradient * 0)
    return model


class Penalised(nn.Module):
    """A model whose output also holds the weights of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.net = chain()

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output and a penalty."""
        return self.net(x) + self.net[2].weight.square().sum()


@pytest.mark.parametrize(
    ("make", "at", "reason"),
    [
        (masked, "2", "its weight is reparametrised"),
        (masked_bias, "2", "its bias is reparametrised"),
        (spectral, "2", "its weight is reparametrised"),
        (hooked, "2", "it has forward hooks"),
        (masked_gradient, "2", "the gradient of its weight passes through hooks"),
        (Penalised, "net.2", "its parameters are also read by"),
    ],
)
def test_each_refusal_names_its_reason_and_changes_nothing(make: type, at: str, reason: str) -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ls.LiftscapeError, match=reason):
        ls.lift(model, inputs(), at)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("make", [masked, spectral])
def test_other_maps_of_such_a_model_are_lifted(make: type) -> None:
    model = make().double()
    x = inputs().double()
    wanted = model(x).detach()
    lifted = ls.lift(model, x, "0", width=5)
    torch.testing.assert_close(lifted.model(x), wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=0)


def test_features_behind_randomness_are_refused() -> None:
    model = nn.Sequential(nn.Dropout(0.5), *chain())
    with pytest.raises(ls.LiftscapeError, match="two evaluations differ at module '0'"):
        ls.lift(model, inputs(), "3")


def test_features_behind_batch_statistics_of_several_batches_are_refused() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), *chain())
    batches = [(inputs(), torch.zeros(8, 2)), (inputs() + 1, torch.zeros(8, 2))]
    with pytest.raises(ls.LiftscapeError, match="0 is BatchNorm in training mode and the data come in 2 batches"):
        ls.lift(model, batches, "3")
    assert ls.lift(model, inputs(), "3", width=5).model is not None
