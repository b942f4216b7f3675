"""One form of save and load for everything that is made from a network; files of earlier versions are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.outcomes import EmbeddingError

EARLIER = Path(__file__).parent / "written_before"
INPUTS = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Hardtanh(-9, 9), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()


MAKERS: dict[str, Callable[[nn.Module], Any]] = {
    "collapse": lambda model: ls.collapse_residuals(model, INPUTS),
    "fold": lambda model: ls.fold(model, INPUTS),
    "lift": lambda model: ls.lift(model, INPUTS, "2"),
    "search": lambda model: ls.fold_within(ls.EmpiricalRisk(model, "mse", (INPUTS, INPUTS[:, :1])), budget=0.5),
    "split": lambda model: ls.split(model, None, "0", neuron=1),
    "trim": lambda model: ls.trim(model, INPUTS),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_outcome_is_saved_and_built_again(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](build())
    again = ls.load(build, ls.save(made, tmp_path / "made"))
    assert torch.equal(again(INPUTS), made.model(INPUTS))


def test_a_network_is_saved_with_its_base_and_refused_without(tmp_path: Path) -> None:
    model = ls.fold(build(), INPUTS).model
    with pytest.raises(EmbeddingError, match=r"base was not given; give the network that it was made from as base\.$"):
        ls.save(model, tmp_path / "made")
    assert not list(tmp_path.iterdir())
    again = ls.load(build(), ls.save(model, tmp_path / "made", base=build()))
    assert torch.equal(again(INPUTS), model(INPUTS))


def test_files_of_save_embedded_and_save_folded_are_read() -> None:
    """They were written by liftscape 0.1.0 before save and load had one form, with these outputs."""
    probe = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    expected = torch.tensor([[-0.44312372429928437], [0.11396201284271235]], dtype=torch.float64)
    shallow = lambda: ls.nets.mlp((3, 2, 1)).double()
    lifted = ls.load(shallow, EARLIER / "lifted.safetensors")
    assert torch.allclose(lifted(probe), expected, rtol=0, atol=1e-14)
    folded = ls.load(lifted, EARLIER / "folded.safetensors")
    assert torch.allclose(folded(probe), expected, rtol=0, atol=1e-14)
