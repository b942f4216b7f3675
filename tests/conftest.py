"""Runs every test in float64-friendly, deterministic conditions, with shapes checked at run time."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jaxtyping

# The hook must be in place before the first import of the package in each worker.
_hook = jaxtyping.install_import_hook("liftscape", "beartype.beartype")

import matplotlib as mpl
import pytest
import torch
from hypothesis import HealthCheck, settings

mpl.use("Agg")
torch.set_num_threads(1)
settings.register_profile(
    "liftscape",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("liftscape")


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the tests' own check of types, which a user does not have."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many certificates of the attack stayed undecided."""
    counts = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "undecided"
    ]
    if counts:
        undecided, tried = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(f"certificates under attack: {tried}, none wrong, {undecided} undecided")
