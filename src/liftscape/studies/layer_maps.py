"""Heat maps of layer against step, as medians over runs."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from liftscape.studies.findings import HeatMap

__all__ = ["layer_map"]

_MEANING = {
    "held": ("linearised neurons", "share of neurons on one affine piece"),
    "correlation": ("least correlation", "smallest |ρ| of a neuron's input and output"),
}


def layer_map(network: str, runs: Sequence[Mapping[str, Any]], names: Sequence[str], key: str) -> HeatMap | None:
    """Draw one number of every layer over the steps.

    Args:
        network: named in the title.
        runs: rows of :func:`liftscape.training.classifier.watch`.
        names: of the layers.
        key: "held" or "correlation".

    Returns:
        The map; None where all values are zero.
    """
    values = tuple(
        tuple(
            median(float("nan") if row[key][record][place] is None else row[key][record][place] for row in runs)
            for record in range(len(runs[0]["layers_at"]))
        )
        for place in range(len(names))
    )
    if not any(value for layer in values for value in layer):
        return None
    title, meaning = _MEANING[key]
    zero = not any(share for row in runs for layers in row["held"] for share in layers)
    return HeatMap(
        f"{network.replace(' ', '-').replace(',', '')}-{key}",
        f"{network}: {title}",
        "gradient step",
        "activation",
        meaning,
        tuple(map(float, runs[0]["layers_at"])),
        tuple(names),
        values,
        "Layers from the input (top) to the output; medians over seeds."
        + (" No neuron stays on one affine piece at any of these steps." if zero else ""),
    )
