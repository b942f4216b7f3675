"""Why an affine map cannot be replaced by a block that computes the same: one table of predicates and sentences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from liftscape.forward._modules import ModuleFacts
from liftscape.forward._pass import ForwardPass

__all__ = ["REFUSALS", "Refusal", "refusal_of"]

_Predicate = Callable[[ForwardPass, ModuleFacts], str | None]


@final
@dataclass(frozen=True)
class Refusal:
    """One reason.

    Attributes:
        found: returns what of a module stands in the way, "" where the whole module does, None where nothing does.
        sentence: the reason, with {found}, {class_name} and {plain_class}.
    """

    found: _Predicate
    sentence: str

    def explain(self, passed: ForwardPass, facts: ModuleFacts) -> str | None:
        """Return the reason, None where it does not apply.

        Args:
            passed: the forward pass.
            facts: of the module.

        Returns:
            The sentence.
        """
        found = self.found(passed, facts)
        if found is None:
            return None
        return self.sentence.format(found=found, class_name=facts.class_name, plain_class=facts.plain_class)


def _other_user(passed: ForwardPass, facts: ModuleFacts) -> str | None:
    """Return the call outside of a map that reads one of its parameters."""
    for tensor in passed.model.get_submodule(facts.name).parameters():
        for call in passed.readers(passed.parameters[id(tensor)]):
            return call.name
    return None


def _when(condition: Callable[[ModuleFacts], object]) -> _Predicate:
    """Return the predicate of a condition on the whole module."""
    return lambda _passed, facts: "" if condition(facts) else None


# In the order in which they are looked at.
REFUSALS = (
    Refusal(
        lambda _, facts: next(iter(facts.computed), None),
        "its {found} is reparametrised (a parametrization, spectral or weight norm, or a mask); remove that first.",
    ),
    Refusal(
        _when(lambda facts: facts.hooked),
        "it has forward hooks, which may change what it computes and would be lost; remove them first.",
    ),
    Refusal(
        lambda _, facts: " and ".join(facts.gradient_hooks) or None,
        "the gradient of its {found} passes through hooks, such as a mask; remove them first.",
    ),
    Refusal(
        _when(lambda facts: facts.overrides),
        "{class_name} has a forward of its own; replace it by a plain {plain_class}.",
    ),
    Refusal(
        lambda _, facts: facts.tied_to,
        "its parameters are tied to '{found}', so the gradient of one map alone need not vanish; untie them.",
    ),
    Refusal(
        lambda _, facts: " and ".join(facts.frozen) or None,
        "its {found} is frozen, so its gradient need not vanish; set requires_grad.",
    ),
    Refusal(
        lambda passed, facts: None if passed.calls_of(passed.model.get_submodule(facts.name)) else "",
        "it is never called as a module on these inputs; its weights are used by other means or not at all.",
    ),
    Refusal(
        _other_user,
        "its parameters are also read by '{found}' outside of it, as a tied map or a penalty does, so their gradient "
        "in the map alone need not vanish; use them in the map only.",
    ),
    Refusal(
        lambda passed, facts: passed.attributes.get(facts.name),
        "the forward pass reads its {found} from outside, which an inserted block does not have; read it from the "
        "inputs, or from next(model.parameters()).",
    ),
)


def refusal_of(passed: ForwardPass, name: str) -> str | None:
    """Say which hypothesis of the lifting fails at an affine map, if one does.

    Args:
        passed: the forward pass.
        name: of the map.

    Returns:
        The first reason that applies.
    """
    facts = passed.facts[name]
    return next((text for text in (each.explain(passed, facts) for each in REFUSALS) if text is not None), None)
