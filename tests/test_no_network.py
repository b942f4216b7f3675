"""What is no network, or one without numbers, is refused in one sentence by everything that takes a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.checks import check_fold
from liftscape.folding import interval_bounds, linear_bounds, operations, output_gap, search_difference
from liftscape.integrations import to_onnx
from liftscape.outcomes import LiftscapeError, ModelError
from liftscape.storage import load

X, Y = torch.ones(5, 3), torch.zeros(5, 2)
BOX = (torch.zeros(3), torch.ones(3))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


TAKERS: dict[str, Callable[[Any], object]] = {
    "EmpiricalRisk": lambda model: ls.EmpiricalRisk(model, "mse", (X, Y)),
    "add_null_neuron": lambda model: ls.add_null_neuron(model, None, "0"),
    "approximate_lift": lambda model: ls.approximate_lift(model, X, "2"),
    "check_fold, the fold": lambda model: check_fold(model, X, network()),
    "check_fold, the network": lambda model: check_fold(network(), X, model),
    "collapse_residuals": lambda model: ls.collapse_residuals(model, X),
    "embed": lambda model: ls.embed(model, layers={"0": ls.NeuronMap((0, 1, 2, 3, 3), (1.0, 1.0, 1.0, 0.5, 0.5))}),
    "find_sites": lambda model: ls.find_sites(model, X),
    "fold": lambda model: ls.fold(model, X),
    "fold by least squares": lambda model: ls.fold(model, X, at="1", method="least-squares"),
    "interval_bounds": lambda model: interval_bounds(model, *BOX),
    "layer_linearity": lambda model: ls.layer_linearity(model, X),
    "lift": lambda model: ls.lift(model, X, "2"),
    "linear_bounds": lambda model: linear_bounds(model, *BOX),
    "merge": lambda model: ls.merge(model, X, "0"),
    "operations": lambda model: operations(model, X),
    "output_gap": lambda model: output_gap(network(), model, X),
    "proved fold": lambda model: ls.fold(model, method=ls.Proved(BOX)),
    "save": lambda model: ls.save(model, "never-written", base=network()),
    "search_difference": lambda model: search_difference(model, network(), X),
    "split": lambda model: ls.split(model, None, "0", neuron=1),
    "trim": lambda model: ls.trim(model, X),
}


@pytest.mark.parametrize("name", TAKERS)
def test_a_network_on_the_meta_device_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"^0\.weight of Sequential is on the meta device.*first\.$"):
        TAKERS[name](network().to("meta"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_module_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"^a model is a torch\.nn\.Module, but str was given; build one first\.$"):
        TAKERS[name]("my_model.py")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_a_scripted_network_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^Sequential is a TorchScript module.*it was made from\.$"):
        ls.EmpiricalRisk(torch.jit.script(network()), "mse", (X, Y))


@pytest.mark.usefixtures("unchecked")
def test_an_outcome_is_not_its_network() -> None:
    with pytest.raises(ModelError, match=r"but Fold was given; give its \.model\.$"):
        ls.fold(ls.fold(network(), X), X)  # pyright: ignore[reportArgumentType]


def test_an_export_needs_numbers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match="meta device"):
        to_onnx(network().to("meta"), X, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ends", [(True, False), (False, True), (True, True)])
def test_a_box_needs_numbers(ends: tuple[bool, bool]) -> None:
    low, high = (end.to("meta") if meta else end for end, meta in zip(BOX, ends, strict=True))
    for ask in (
        lambda: ls.fold(network(), method=ls.Proved((low, high))),
        lambda: interval_bounds(network(), low, high),
    ):
        with pytest.raises(LiftscapeError, match=r"a box (is two tensors|needs finite).*meta.*\.$"):
            ask()


def test_a_base_network_needs_no_numbers(tmp_path: Path) -> None:
    """Only its structure is read when a network is saved, and when it is built again."""
    net: nn.Module = network()
    place = ls.save(ls.lift(net, X, "2"), tmp_path / "lifted")
    built: Tensor = load(network(), place)(X)
    assert torch.allclose(built, net(X), atol=1e-6)
    folded = ls.fold(net, X).model
    assert ls.save(folded, tmp_path / "folded", base=network().to("meta")).exists()
