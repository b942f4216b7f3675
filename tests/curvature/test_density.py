"""Spectral densities against known spectra, and work that is killed and resumed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.curvature.spectra import F64, rotated

import liftscape as ls
from liftscape.curvature import spectral_density

SPECTRUM = torch.cat([torch.linspace(-24, 24, 200, dtype=F64), torch.full((100,), 3.0, dtype=F64)])


def test_moments_and_shares_lie_within_their_intervals() -> None:
    density = spectral_density(rotated(SPECTRUM), steps=40, probes=20)
    # A confidence at which no seed is expected to miss.
    for power in (1, 2, 3):
        value, low, high = density.mean(lambda nodes, power=power: nodes**power, confidence=1 - 1e-6)
        assert low <= float((SPECTRUM**power).mean()) <= high
        assert low <= value <= high
    for threshold in (-10.3, 0.1, 15.2):
        _, low, high = density.mass_below(threshold, confidence=1 - 1e-6)
        # Quadrature of a step function errs by the weight of the node next to it.
        assert low - 0.03 <= float((threshold > SPECTRUM).double().mean()) <= high + 0.03


def test_intervals_cover_an_indefinite_mean_as_often_as_they_say() -> None:
    A = rotated(torch.linspace(-3, 2, 60))
    exact, missed = float(A.trace()) / 60, 0
    for seed in range(200):
        density = spectral_density(A, steps=5, probes=5, generator=torch.Generator().manual_seed(seed))
        _, low, high = density.mean(lambda nodes: nodes, confidence=0.9)
        missed += not low <= exact <= high
    # 20 are expected; 40 has a probability below 1e-5.
    assert 5 <= missed <= 40


def test_the_support_holds_the_spectrum_and_there_are_no_ghosts() -> None:
    A = rotated([1.0] * 50 + [-2.0] * 50)
    density = spectral_density(A, steps=60, probes=3)
    assert density.nodes.shape == (3, 2)
    torch.testing.assert_close(density.nodes, torch.tensor([[-2.0, 1.0]] * 3, dtype=F64), rtol=0, atol=1e-12)
    assert density.lower <= -2.0 + 1e-12
    assert density.upper >= 1.0 - 1e-12


def test_the_smoothed_density_has_unit_mass() -> None:
    density = spectral_density(rotated(SPECTRUM), steps=30, probes=4)
    grid = torch.linspace(-40, 40, 2001, dtype=F64)
    values, errors = density.evaluate(grid, width=1.0)
    assert float(torch.trapezoid(values, grid)) == pytest.approx(1.0, abs=1e-6)
    assert bool((errors >= 0).all())


def test_misuse_is_refused() -> None:
    with pytest.raises(ls.LiftscapeError, match="needs steps and probes ≥ 1, but 0 and 1"):
        spectral_density(torch.eye(3, dtype=F64), steps=0)


_WORK = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from liftscape.curvature import spectral_density
from liftscape.operators import SymmetricOperator

class Slow(SymmetricOperator):
    size, dtype, device = 400, torch.float32, torch.device("cpu")
    def __init__(self, pause):
        draw = torch.randn(400, 400, generator=torch.Generator().manual_seed(1))
        self.A, self.pause, self.done = draw + draw.T, pause, 0
    def multiply(self, block):
        time.sleep(self.pause)
        self.done += 1
        print(self.done, flush=True)
        return self.A @ block

H = Slow(float(sys.argv[2]))
density = spectral_density(H, steps=100, probes=2, checkpoint=None if sys.argv[1] == "-" else sys.argv[1])
Path(sys.argv[3]).write_text(density.to_json())
"""


def _run(folder: str, pause: float, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WORK, folder, str(pause), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_in_the_middle_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole = _run("-", 0.0, tmp_path / "whole.json")
    counted, _ = whole.communicate()
    folder = str(tmp_path / "checkpoint")
    killed = _run(folder, 0.005, tmp_path / "killed.json")
    assert killed.stdout is not None
    for line in killed.stdout:
        if int(line) >= 130:
            killed.send_signal(signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.json").exists()
    resumed = _run(folder, 0.0, tmp_path / "resumed.json")
    taken, _ = resumed.communicate()
    assert (tmp_path / "resumed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    # One product checks that the operator is the same.
    assert len(taken.split()) <= len(counted.split()) - 130 + 3


def test_a_checkpoint_of_other_work_is_refused(tmp_path: Path) -> None:
    A = rotated(torch.linspace(-1, 1, 50))
    spectral_density(A, steps=10, checkpoint=tmp_path / "c")
    for other, steps, named in ((A, 12, "steps"), (2 * A, 10, "the operator itself")):
        with pytest.raises(ls.LiftscapeError, match=f"is a checkpoint of other work, which differs in {named}"):
            spectral_density(other, steps=steps, checkpoint=tmp_path / "c")


def test_a_record_that_was_cut_off_is_taken_again(tmp_path: Path) -> None:
    A = rotated(torch.linspace(-1, 1, 50))
    wanted = ls.curvature.eigenpairs(A, 2).to_json()
    assert ls.curvature.eigenpairs(A, 2, checkpoint=tmp_path).to_json() == wanted
    record = tmp_path / "products.bin"
    record.write_bytes(record.read_bytes()[:-13])
    assert ls.curvature.eigenpairs(A, 2, checkpoint=tmp_path).to_json() == wanted


def test_a_forecast_counts_products_time_and_memory() -> None:
    class Sleeping(ls.curvature.SymmetricOperator):
        size, dtype, device = 10, F64, torch.device("cpu")

        def multiply(self, block: torch.Tensor) -> torch.Tensor:
            """Take a while."""
            time.sleep(0.02)
            return block

    cost = ls.curvature.forecast(Sleeping(), products=50, vectors=7)
    assert cost.products == 50
    assert cost.memory_bytes == 7 * 10 * 8
    assert 1.0 <= cost.seconds <= 3.0
    assert "About 50 products of 0.02" in str(cost)
