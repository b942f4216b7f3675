"""The studies by name; none is imported before it is asked for."""

import difflib
from importlib import import_module
from pathlib import Path
from typing import Any

from liftscape.studies.settings import refuse

__all__ = ["STUDIES", "settings_file", "study_module"]

# Name: what it asks.
STUDIES = {
    "degeneracy": "Are inertia and dimension of lifted critical points those that the theory predicts?",
    "strict-saddle": "When does a lifted local minimum become a strict saddle, and can training leave it?",
    "depth-dynamics": "Do deep networks on their way stay at critical points of shallower ones?",
    "batch-norm": "Does batch normalisation keep layers from being linearised, and is that why training is faster?",
    "data-size": "Does more data shrink the lifted manifolds, and is that why training leaves them sooner?",
    "layer-pruning": "Can layers that training has linearised be folded away, at a plateau and at the end?",
    "fold-criteria": "Which criterion finds the layers that a network can do without, and what leaves for nothing?",
    "escape-growth": "Does growth by escape train faster than other ways to make a stuck network deeper?",
    "in-the-wild": "How linear are the layers of networks as they are used, over training and at the end?",
}


def study_module(name: str) -> Any:
    """Import a study.

    Args:
        name: one of :data:`STUDIES`.

    Returns:
        The module, with Settings, tasks, run_task(settings, task, device) and summarise.

    Raises:
        LoadError: if there is no such study; the nearest name is offered.
    """
    if name not in STUDIES:
        nearest = difflib.get_close_matches(name, STUDIES, n=1, cutoff=0.4)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(STUDIES)}."
        refuse(f"there is no study '{name}'; {hint}")
    return import_module(f"liftscape.studies.{name.replace('-', '_')}")


def settings_file(name: str) -> Path:
    """Return the committed settings of a study.

    Args:
        name: of the study.

    Returns:
        The TOML file.
    """
    return Path(__file__).with_name(f"{name.replace('-', '_')}.toml")
