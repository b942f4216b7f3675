"""A small made-up result, so that the report is tested without running the study."""

import math

import pytest

from liftscape.studies.embedding_principle_config import load_config
from liftscape.studies.embedding_principle_curve_records import (
    PathStudy,
    SmoothStudy,
    SplitStudy,
    TrainingLevel,
    TrainingStudy,
)
from liftscape.studies.embedding_principle_escape_records import EscapedPoint, EscapeStudy
from liftscape.studies.embedding_principle_records import LiftedPoint, ShallowPoint, ShallowSearch, Spectrum
from liftscape.studies.embedding_principle_result import DemoResult


def spectrum(label: str, kind: str, negative: tuple[float, ...], zeros: int, positive: tuple[float, ...]) -> Spectrum:
    """Return a spectrum with the given counted eigenvalues."""
    values = (*negative, *[1e-15] * zeros, *positive)
    return Spectrum(label, kind, values, 1e-12, (len(negative), zeros, len(positive)), 3e-14)


def lifted(point: str, sample: int, kind: str) -> LiftedPoint:
    """Return a certificate."""
    return LiftedPoint(
        point=point,
        network="tanh 3-1-1",
        at="0",
        activation="ELU",
        layers=1,
        widths=(2,),
        sample=sample,
        slopes=((1.0, 1.0),),
        output_gap=2e-16,
        gradient_norm=3e-15,
        hessian_gap=4e-16,
        predicted="(0, 8, 6)",
        measured=(0, 8, 6),
        margin=1e5,
        decided=True,
        as_predicted=True,
        dimension=8,
        added_nullity=8,
        corank=0,
        piece_margin=0.5,
        kink_margin=0.5,
        kind=kind,
        tail=False,
    )


def make_result(name: str = "tanh 3-1-1") -> DemoResult:
    """Return a made-up result; `name` stands where a network is named."""
    minimum = spectrum("P1", "local minimum", (), 0, (0.01, 0.2, 0.21, 0.9, 2.0, 4.0))
    saddle = spectrum("P2", "strict saddle", (-0.3,), 2, (0.1, 1.0, 3.0))
    valley = spectrum("+1 layer", "degenerate local minimum", (), 8, (0.02, 0.2, 0.3, 0.9, 2.5, 5.0))
    lifted_saddle = spectrum("+1 layer", "strict saddle", (-0.2,), 10, (0.1, 1.1, 3.0))
    times = tuple(index / 10 for index in range(11))
    signed = tuple(index / 10 - 0.5 for index in range(11))
    losses = tuple(tuple(0.05 + math.exp(-step / 20 / (run + 1)) for step in range(0, 200, 5)) for run in range(3))
    return DemoResult(
        config=load_config(),
        searches=(ShallowSearch(name, 10, {"critical": 8, "diverging": 1, "gradient-flat": 1}, 3),),
        points=(
            ShallowPoint("P1", name, "global minimum of those found", 0.0577, 6, minimum),
            ShallowPoint("P2", name, "saddle", 1.0, 2, saddle),
        ),
        lifts=(lifted("P1", 0, "degenerate local minimum"), lifted("P2", 1, "strict saddle")),
        spectra=((minimum, valley), (saddle, lifted_saddle)),
        path=PathStudy(
            "P1", "ELU", "0", 0.05, times, tuple(0.05 + 1e-17 * t for t in times), times, signed,
            tuple(0.05 + s**2 for s in signed),
        ),
        training=TrainingStudy(
            "tanh 3-2-2-1",
            tuple(range(0, 200, 5)),
            losses,
            (
                TrainingLevel("P1", name, 0.0577, "local minimum", 2, 30),
                TrainingLevel("P3", name, 0.0579, "local minimum", 1, 20),
                TrainingLevel("P2", name, 1.0, "strict saddle", 3, 5),
            ),
            0.01,
        ),
        smooth=SmoothStudy(
            "P1", "0", "tanh", (0.1, 0.01, 0.001), (1e-2, 1e-4, 1e-6), (1e-1, 1e-2, 1e-3), (-0.2, -0.3, -0.3),
            (2, 3, 3), 2.0, 1.0, 0.01,
        ),
        split=SplitStudy("P1", "0", 1, -0.5, 1e-16, (minimum, saddle, lifted_saddle)),
        escape=EscapeStudy(
            "P1", 0.0577, 4, 2, "ELU", (0, 20, 40),
            (
                EscapedPoint(
                    "P3", name, 0.06, "0", 1e-3, 9e-4, 0.4, (0.0, 0.5, 1.0), (0.06, 0.06, 0.0591),
                    (0.0591, 0.058, 0.057), (0.06, 0.06, 0.06), (20,),
                ),
            ),
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def demo_result() -> DemoResult:
    """A made-up result."""
    return make_result()


@pytest.fixture(scope="session")
def evil_result() -> DemoResult:
    """A made-up result whose network has a name that is a script."""
    return make_result("<script>alert('tanh')</script> & \"3-1-1\"")
