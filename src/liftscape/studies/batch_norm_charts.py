"""The charts of the batch-norm study."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from liftscape.studies.effects import as_number
from liftscape.studies.findings import Chart, HeatMap, Series
from liftscape.studies.layer_maps import layer_map

__all__ = ["STARTS", "VARIANTS", "held_chart", "layer_maps", "loss_chart", "runs_of", "start_chart"]

VARIANTS = ("plain", "norm", "norm, β = 0", "norm, large β")
STARTS = ("on", "near", "off", "on, norm", "near, norm", "off, norm")
Row = Mapping[str, Any]


def runs_of(runs: Sequence[Row], network: str, name: str, variant: str) -> list[Row]:
    """Return the runs of one kind, by seed.

    Args:
        runs: all of them.
        network: "mlp", "cnn" or "control".
        name: of the data.
        variant: one of :data:`VARIANTS` or :data:`STARTS`.

    Returns:
        Their rows.
    """
    return [row for row in runs if (row["network"], row["data"], row["variant"]) == (network, name, variant)]


def _curves(
    groups: Mapping[str, Sequence[Row]], value: Callable[[Row], tuple[list[float], list[float]]]
) -> list[Series]:
    """Return a faint line for each run and a bold median for each group."""
    series = []
    for group, (label, own) in enumerate(groups.items()):
        curves = [value(row) for row in own]
        series += [Series("", tuple(x), tuple(y), "faint", group) for x, y in curves]
        middle = [median(values) for values in zip(*(y for _, y in curves), strict=True)]
        series.append(Series(label, tuple(curves[0][0]), tuple(middle), "bold", group))
    return series


def _losses(row: Row) -> tuple[list[float], list[float]]:
    """Return steps, from 1 for a logarithmic axis, and losses."""
    return [step + 1.0 for step in row["steps"]], list(map(as_number, row["losses"]))


def loss_chart(runs: Sequence[Row], network: str, name: str) -> Chart:
    """Draw the losses of all variants.

    Args:
        runs: all of them.
        network: "mlp" or "cnn".
        name: of the data.

    Returns:
        The chart.
    """
    return Chart(
        f"{network}-{name}-loss",
        f"{network} on {name}: loss",
        "gradient step + 1",
        "training loss (cross-entropy)",
        tuple(_curves({variant: runs_of(runs, network, name, variant) for variant in VARIANTS}, _losses)),
        "Faint: seeds; bold: their median. Where one of norm and norm, β = 0 cannot be seen, it lies below the other.",
        log_x=True,
        log_y=True,
    )


def held_chart(runs: Sequence[Row], network: str, name: str) -> Chart:
    """Draw the share of neurons on one piece.

    Args:
        runs: all of them.
        network: "mlp" or "cnn".
        name: of the data.

    Returns:
        The chart.
    """
    shares = lambda row: ([step + 1.0 for step in row["layers_at"]], [fmean(layers) for layers in row["held"]])
    return Chart(
        f"{network}-{name}-linear",
        f"{network} on {name}: linearised neurons",
        "gradient step + 1",
        "share of neurons on one affine piece, mean over layers",
        tuple(_curves({variant: runs_of(runs, network, name, variant) for variant in VARIANTS}, shares)),
        "How many neurons are linear on all samples looked at. Faint: seeds; bold: their median. Where one of norm and "
        "norm, β = 0 cannot be seen, it lies below the other.",
        log_x=True,
    )


def layer_maps(runs: Sequence[Row], network: str, name: str) -> list[HeatMap]:
    """Draw layer against step with and without BatchNorm.

    Args:
        runs: all of them.
        network: "mlp" or "cnn".
        name: of the data.

    Returns:
        The maps that show something.
    """
    maps = []
    for variant in ("plain", "norm"):
        own = runs_of(runs, network, name, variant)
        layers = [f"layer {place + 1}" for place in range(len(own[0]["held"][0]))]
        maps += [layer_map(f"{network} on {name}, {variant}", own, layers, key) for key in ("correlation", "held")]
    return [each for each in maps if each is not None]


def start_chart(depth: int, runs: Sequence[Row], name: str) -> Chart:
    """Draw the losses from the starts of the control.

    Args:
        depth: hidden layers of the network.
        runs: all of them.
        name: of the data.

    Returns:
        The chart.
    """
    groups = {start: runs_of(runs, "control", name, start) for start in STARTS}
    return Chart(
        f"control-{name}",
        f"One network, three starts: {name}",
        "gradient step + 1",
        "training loss (cross-entropy)",
        tuple(_curves(groups, _losses)),
        f"The mlp of {depth} hidden layers started on, near and off a lifted manifold, without BatchNorm and "
        "with one that leaves all outputs as they are. Faint: seeds; bold: their median.",
        log_x=True,
        log_y=True,
    )
