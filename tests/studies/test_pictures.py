"""The studies on pictures: their starts are what they claim to be, and their laws are those of the theory."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import liftscape as ls
from liftscape.nets.image_classifiers import plain_cnn
from liftscape.statistics import effect_of
from liftscape.studies import batch_norm, data_size, in_the_wild_nets
from liftscape.studies.catalogue import settings_file
from liftscape.studies.pictures import pictures
from liftscape.studies.runner import run_study
from liftscape.studies.settings import read_settings
from liftscape.studies.verdicts import verdict_of
from liftscape.training.plateaus import longest_plateau
from liftscape.training.step_counts import steps_to

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    return pictures("digits", 300, CPU)


def test_batch_normalisation_of_the_control_changes_no_output_and_the_start_is_linear(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    config = read_settings(batch_norm.Settings, settings_file("batch-norm"), "toy")
    plain, _ = batch_norm._control(config, "on", 0, *digits)
    normed, _ = batch_norm._control(config, "on, norm", 0, *digits)
    off, _ = batch_norm._control(config, "off", 0, *digits)
    with torch.no_grad():
        torch.testing.assert_close(normed(digits[0]), plain(digits[0]), rtol=1e-4, atol=1e-4)
    inserted = [row.occupancy for row in ls.layer_linearity(plain, digits[0]).rows if row.name.startswith("3")]
    assert inserted == [1.0] * (config.depth - 1)
    assert min(row.occupancy for row in ls.layer_linearity(off, digits[0]).rows) < 1


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_with_beta_zero_no_neuron_is_on_one_piece_and_with_a_large_one_all_are(
    shift: float, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    model = plain_cnn(8, (4, 4), norm=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, shift)
    shares = [row.occupancy for row in ls.layer_linearity(model, digits[0]).rows]
    assert shares == ([0.0, 0.0] if shift == 0 else [1.0, 1.0])


def test_the_share_of_linear_neurons_has_mean_one_over_n_plus_one() -> None:
    config = read_settings(data_size.Settings, settings_file("data-size"), "toy")
    shares = [data_size._shares(config, order, CPU) for order in range(30)]
    for place, n in enumerate(config.sizes):
        values = [each[place] * (n + 1) for each in shares]
        spread = torch.tensor(values).std() / len(values) ** 0.5
        assert abs(sum(values) / len(values) - 1) < 4 * float(spread)
    assert all(each == sorted(each, reverse=True) for each in shares)


def test_steps_and_effects_at_their_edges() -> None:
    assert steps_to(0.1, [0, 1], [1.0, 0.5]) == math.inf
    assert steps_to(2.0, [0, 1], [1.0, 0.5]) == 0
    assert steps_to(0.5, [0, 4], [math.inf, 0.5]) == 4
    assert effect_of([]).text() == "none"
    assert effect_of([3.0]).beyond() == 0
    assert verdict_of([effect_of([3.0])], 1) == "undecided"
    assert verdict_of([effect_of([3.0, 3.1]), effect_of([3.0])], -1) == "does not hold"
    assert verdict_of([], 1) == "undecided"
    assert effect_of([3.0, math.nan, 3.0]).count == 2
    assert longest_plateau([0, 1, 2], [3.0, 2.0, 1.0], 0.01) == 0
    assert longest_plateau([0, 10, 20, 1000], [3.0, 1.0, 1.0, 0.995], 0.01) == 20


def test_a_trained_network_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_the_wild_nets, "find_spec", lambda _name: None)
    missing = in_the_wild_nets.trained_mnist_cnn()
    assert isinstance(missing, str)
    assert "pip install" in missing


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there_is_refused_before_any_work(device: str, tmp_path: Path) -> None:
    with pytest.raises(ls.LiftscapeError, match=f"device '{device}' was asked for, but torch .* give 'cpu' or 'auto'"):
        run_study("data-size", tmp_path / "out", size="toy", device=device)
    assert not (tmp_path / "out").exists()
