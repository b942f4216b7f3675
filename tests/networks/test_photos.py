"""EfficientNet-lite0 (ReLU6, BatchNorm, depthwise) and MTCNN (PReLU) on two photos: seen, lifted and folded back."""

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.sites import find_sites

from .nets import efficientnet_lite0, mtcnn_part, photos


def gap(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Return the largest difference of outputs, relative to the largest output, over all outputs."""
    with torch.no_grad():
        ours, theirs = model(x), other(x)
    pairs = [(ours, theirs)] if isinstance(ours, Tensor) else list(zip(ours, theirs, strict=True))
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in pairs)


@pytest.mark.long
@pytest.mark.parametrize(("at", "activation"), [("_fc", "relu6"), ("_blocks.5._project_conv.1", "hardtanh")])
def test_efficientnet_is_lifted_and_folded_back(at: str, activation: str) -> None:
    model, x = efficientnet_lite0(), photos(224)
    sites = find_sites(model, x)
    refused = [site.refusal for site in sites if site.refusal is not None]
    assert len(sites) == 50
    # All but the depthwise ones can be lifted.
    assert len(refused) in {0, 16}
    assert all("groups" in reason for reason in refused)
    rows = ls.layer_linearity(model, x).rows
    assert len(rows) == 33
    assert sum(row.neurons for row in rows) == 19_200
    lifted = ls.lift(model, x, at, activation=activation)
    assert lifted.sites[0].margin > 0
    assert gap(lifted.model, model, x) <= 1e-5
    folded = ls.fold(lifted, x)
    assert f"{at}.activation" in folded.removed
    assert gap(folded.model, model, x) <= 1e-5


@pytest.mark.parametrize(
    ("name", "side", "at"), [("PNet", 224, "conv2"), ("RNet", 24, "dense4"), ("ONet", 48, "conv4")]
)
def test_mtcnn_is_lifted_and_folded_back(name: str, side: int, at: str) -> None:
    model, x = mtcnn_part(name), photos(224)
    # RNet and ONet read cut-outs of one size.
    x = x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)
    assert all(site.refusal is None for site in find_sites(model, x))
    rows = ls.layer_linearity(model, x).rows
    assert [row.name for row in rows] == [name for name, each in model.named_modules() if isinstance(each, nn.PReLU)]
    lifted = ls.lift(model, x, at)
    assert isinstance(lifted.model.get_submodule(f"{at}.activation"), nn.PReLU)
    folded = ls.fold(lifted, x, at=f"{at}.activation")
    assert folded.removed == (f"{at}.activation",)
    for network in (lifted.model, folded.model):
        assert gap(network, model, x) <= 1e-5
