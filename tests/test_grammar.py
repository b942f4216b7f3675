"""Every public verb reads (subject, inputs, at, *, options), and says so when the subject is of another kind."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import liftscape as ls

VERBS = {
    f"{prefix}.{name}": getattr(module, name)
    for prefix, module in {"ls": ls, "ls.curvature": ls.curvature, "ls.checks": ls.checks}.items()
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}
TAKES_RISK = sorted(name for name, verb in VERBS.items() if next(iter(inspect.signature(verb).parameters)) == "risk")
TAKES_MODEL = [
    "ls.add_null_neuron",
    "ls.approximate_lift",
    "ls.collapse_residuals",
    "ls.embed",
    "ls.find_sites",
    "ls.fold",
    "ls.layer_linearity",
    "ls.lift",
    "ls.merge",
    "ls.plant_critical_point",
    "ls.split",
    "ls.trim",
]
# Words that stand for a concept that has another word.
RETIRED = {"how", "seed", "only", "layers", "model_or_risk", "risk_or_embedding", "methods", "name"}
# A mapping of maps or of indices to what is done with each, which is more than a choice of modules.
MAPPINGS = {("ls.embed", "layers"), ("ls.curvature.trace_by_layer", "layers"), ("ls.curvature.block_curvature", "name")}


def parameters(verb: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(verb).parameters.values())


@pytest.mark.parametrize("name", VERBS)
def test_the_subject_comes_first_and_options_have_names(name: str) -> None:
    positional = [each for each in parameters(VERBS[name]) if each.kind is each.POSITIONAL_OR_KEYWORD]
    words = [each.name for each in positional]
    assert 1 <= len(words) <= 3
    assert [word for word in words if word in {"inputs", "at"}] == [w for w in ("inputs", "at") if w in words]
    assert words.index("inputs") == 1 if "inputs" in words else True
    assert words.index("at") == 2 if "at" in words else True
    # What may be left out is an option, but for data that a risk holds and modules that are all meant.
    assert {each.name for each in positional if each.default is not each.empty} <= {"inputs", "at"}


@pytest.mark.parametrize("name", VERBS)
def test_one_word_stands_for_one_concept(name: str) -> None:
    taken = {(name, each.name) for each in parameters(VERBS[name]) if each.name in RETIRED}
    assert taken <= MAPPINGS


@pytest.mark.parametrize(
    "name", [name for name, verb in VERBS.items() if "generator" in inspect.signature(verb).parameters]
)
def test_randomness_is_a_generator_or_its_seed(name: str) -> None:
    taken = inspect.signature(VERBS[name]).parameters["generator"]
    assert taken.default is None
    assert taken.annotation == torch.Generator | int | None


def call(name: str, subject: Any) -> Any:
    """Call a verb with a subject, and something for all else that it must be given."""
    rest = parameters(VERBS[name])[1:]
    needed = [each for each in rest if each.default is each.empty]
    named = {each.name: torch.zeros(1) for each in needed if each.kind is each.KEYWORD_ONLY}
    return VERBS[name](subject, *("0" for each in needed if each.name not in named), **named)


MODEL = nn.Sequential(nn.Linear(1, 1)).double()
RISK = ls.EmpiricalRisk(MODEL, "mse", (torch.ones(2, 1).double(), torch.ones(2, 1).double()))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("subject", [MODEL, "risk", None, np.eye(2)], ids=["module", "string", "None", "array"])
@pytest.mark.parametrize("name", TAKES_RISK)
def test_a_verb_that_needs_a_risk_says_so(name: str, subject: Any) -> None:
    verb, kind = name.split(".")[-1], type(subject).__name__
    with pytest.raises(ls.LiftscapeError, match=rf"^{verb} needs a risk, but {kind} was given; give [^.]*\.$"):
        call(name, subject)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("subject", [object(), "model", None, np.eye(2)], ids=["object", "string", "None", "array"])
@pytest.mark.parametrize("name", TAKES_MODEL)
def test_a_verb_that_needs_a_model_says_so(name: str, subject: Any) -> None:
    with pytest.raises(
        ls.LiftscapeError, match=rf"a model is a torch.nn.Module, but {type(subject).__name__} was given"
    ):
        call(name, subject)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name", ["ls.lift", "ls.approximate_lift", "ls.split", "ls.merge", "ls.find_sites", "ls.embed"]
)
def test_a_verb_that_changes_a_model_asks_for_the_model_of_a_risk(name: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=r"EmpiricalRisk was given; give its \.model"):
        call(name, RISK)


@pytest.mark.parametrize("generator", [7, torch.Generator().manual_seed(7)], ids=["seed", "generator"])
def test_a_seed_draws_what_its_generator_draws(generator: torch.Generator | int) -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    lifted = ls.lift(MODEL, x, "0", width=2, activation="relu", generator=generator)
    again = ls.lift(MODEL, x, "0", width=2, activation="relu", generator=torch.Generator().manual_seed(7))
    for ours, theirs in zip(lifted.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("generator", [np.random.default_rng(0), "seed", 1.5, True])
def test_other_sources_of_randomness_are_refused(generator: Any) -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    with pytest.raises(ls.LiftscapeError, match=r"generator must be a torch.Generator or an int as its seed"):
        ls.lift(MODEL, x, "0", generator=generator)
