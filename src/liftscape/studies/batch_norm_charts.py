"""The charts of the batch-norm study."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from liftscape.studies.findings import Chart, HeatMap
from liftscape.studies.layer_maps import layer_map
from liftscape.studies.trainings import loss_chart as losses_of
from liftscape.studies.trainings import seed_curves

__all__ = ["STARTS", "VARIANTS", "held_chart", "layer_maps", "loss_chart", "runs_of", "start_chart"]

VARIANTS = ("plain", "norm", "norm, β = 0", "norm, large β")
STARTS = ("on", "near", "off", "on, norm", "near, norm", "off, norm")
_HIDDEN = "Where one of norm and norm, β = 0 cannot be seen, it lies below the other."
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


def loss_chart(runs: Sequence[Row], network: str, name: str) -> Chart:
    """Draw the losses of all variants.

    Args:
        runs: all of them.
        network: "mlp" or "cnn".
        name: of the data.

    Returns:
        The chart.
    """
    groups = {variant: runs_of(runs, network, name, variant) for variant in VARIANTS}
    return losses_of(f"{network}-{name}-loss", f"{network} on {name}: loss", seed_curves(groups), _HIDDEN, log_y=True)


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
        seed_curves({variant: runs_of(runs, network, name, variant) for variant in VARIANTS}, shares),
        f"How many neurons are linear on all samples looked at. {_HIDDEN} Faint: seeds; bold: their median.",
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
    caption = (
        f"The mlp of {depth} hidden layers started on, near and off a lifted manifold, without BatchNorm and with one "
        "that leaves all outputs as they are."
    )
    title = f"One network, three starts: {name}"
    return losses_of(f"control-{name}", title, seed_curves(groups), caption, log_y=True)
