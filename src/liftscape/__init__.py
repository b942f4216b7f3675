"""liftscape shows where a neural network's training stands in its loss landscape, and moves it.

The public names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Certificate": "critical",
    "CriticalSearch": "critical",
    "Embedding": "embedding",
    "EmpiricalRisk": "risk",
    "Ensemble": "training",
    "Escape": "escaping",
    "Fold": "folding",
    "Growth": "training",
    "GrowthSchedule": "training",
    "Inspection": "inspection",
    "LiftedManifold": "embedding",
    "LiftscapeError": "outcomes",
    "Monitor": "training",
    "NeuronMap": "embedding",
    "add_null_neuron": "embedding",
    "affine_pieces": "activations",
    "approximate_lift": "embedding",
    "carry_over": "training",
    "certify": "critical",
    "collapse_residuals": "folding",
    "embed": "embedding",
    "escape": "escaping",
    "find_critical_point": "critical",
    "find_critical_points": "critical",
    "find_sites": "sites",
    "fold": "folding",
    "fold_within": "folding",
    "inspect": "inspection",
    "layer_linearity": "linearity",
    "lift": "embedding",
    "load": "storage",
    "merge": "embedding",
    "plant_critical_point": "critical",
    "save": "storage",
    "split": "embedding",
    "train_ensemble": "training",
    "trim": "folding",
}
_ROOMS = ("checks", "curvature", "data", "integrations", "nets", "report")

__all__ = ["__version__", *sorted(_HOME), *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the room that holds a public name when the name is first asked for."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
