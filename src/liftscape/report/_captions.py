"""What one sees in each figure, in plain words, with numbers taken from the result."""

import math
from collections import Counter

from liftscape.studies.embedding_principle_records import Spectrum
from liftscape.studies.embedding_principle_result import DemoResult

__all__ = [
    "find_caption",
    "path_caption",
    "power_of_ten",
    "smooth_caption",
    "spectra_caption",
    "split_caption",
    "training_caption",
    "verdict",
    "when_a_minimum_becomes_a_saddle",
]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(value: float, digits: int = 0) -> str:
    """Write a number as 3·10⁻¹⁶, plain where it is easy to read.

    Args:
        value: any number.
        digits: digits after the point.

    Returns:
        The text.

    Example:
        >>> power_of_ten(3.1e-16), power_of_ten(0.25), power_of_ten(0.0)
        ('3·10⁻¹⁶', '0.25', '0')
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}".replace("-", "−")
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def verdict(result: DemoResult) -> str:
    """Say the study's answer in one sentence.

    Args:
        result: the study's result.

    Returns:
        One sentence.
    """
    agreeing = sum(lift.decided and lift.as_predicted for lift in result.lifts)
    undecided = sum(not lift.decided for lift in result.lifts)
    return (
        f"{agreeing} of {len(result.lifts)} lifted points: inertia as predicted"
        f"{f' ({undecided} undecided)' if undecided else ''}, outputs kept to "
        f"{power_of_ten(max(lift.output_gap for lift in result.lifts))}, gradient zero to "
        f"{power_of_ten(max(lift.gradient_norm for lift in result.lifts))}."
    )


def find_caption(result: DemoResult) -> str:
    """Say how many starts ended where.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    parts = []
    for search in result.searches:
        ends = ", ".join(f"{count} {status}" for status, count in search.outcomes.items() if count)
        parts.append(f"{search.network}: of {search.starts} random starts, {ends}; {search.distinct} distinct.")
    worst = max(point.spectrum.gradient_norm for point in result.points)
    parts.append(
        f"Points count as distinct when their losses or their outputs on the data differ. The {len(result.points)} "
        "points below, the lowest and the most often reached of each kind, have gradient norms of at most "
        f"{power_of_ten(worst)}."
    )
    return " ".join(parts)


def spectra_caption(result: DemoResult) -> str:
    """Say what lifting does to the spectrum.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    sentences = []
    for shallow, *lifted in result.spectra:
        last = lifted[-1]
        added = last.inertia[1] - shallow.inertia[1]
        signs = (
            "the numbers of negative and of positive eigenvalues stay the same"
            if (last.inertia[0], last.inertia[2]) == (shallow.inertia[0], shallow.inertia[2])
            else "the numbers of negative or positive eigenvalues change"
        )
        sentences.append(
            f"{shallow.label}: from the shallow network ({_counts(shallow)}) to the deepest one ({_counts(last)}) "
            f"{signs} and {added} zeros are added."
        )
    return (
        "Each mark is one eigenvalue: circles uphill, triangles downhill, open marks in the grey band zero. "
        + " ".join(sentences)
        + " A lifted minimum is the floor of a flat valley, a lifted saddle stays a saddle."
    )


def path_caption(result: DemoResult) -> str:
    """Say how flat the path is and how steep the line.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    path = result.path
    along = max(abs(loss - path.value) for loss in path.along_loss) / path.value
    across = max(path.across_loss) / path.value - 1
    return (
        f"Two points of the manifold of {path.point}, lifted with {path.activation} at map {path.at!r}, are joined "
        f"inside it. Over a distance of {max(path.along_distance):.3g} in parameter space the loss {path.value:.6f} "
        f"changes by {power_of_ten(along)} of itself. On a straight line across the manifold it rises by "
        f"{100 * across:.3g} % within a distance of {max(path.across):.2g}."
    )


def training_caption(result: DemoResult) -> str:
    """Say which shallow levels the deep runs visit.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    study = result.training
    visited = sorted((level for level in study.levels if level.runs), key=lambda level: -level.longest_stay)
    final = sorted(run[-1] for run in study.losses)
    lowest = min(level.value for level in study.levels)
    longest = "; ".join(
        f"{level.point} ({level.value:.5f}): {level.runs} runs, at most {level.longest_stay} steps in a row"
        for level in visited[:3]
    )
    below = sum(loss < lowest for loss in final)
    return (
        f"{len(study.losses)} runs of {study.network}, each a faint line; dashed lines are critical values of the "
        f"shallow networks. Runs within {100 * study.tolerance:g} % of a level, longest stays first: {longest}. After "
        f"{study.steps[-1] + 1} steps the losses lie between {final[0]:.5f} and {final[-1]:.5f}; {below} of "
        f"{len(final)} are below the lowest shallow level. That a run lingers near a level agrees with the embedded "
        "points but does not prove that it is near one of them."
    )


def smooth_caption(result: DemoResult) -> str:
    """Say what a smooth activation keeps and what it does not.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    study = result.smooth
    return (
        f"{study.activation} has no affine piece, so the minimum {study.point} can only be lifted approximately, "
        f"with input weights of size ε. The output error falls with slope {study.error_slope:.2f} (ε²), the gradient "
        f"only with slope {study.gradient_slope:.2f} (ε). At ε = {study.epsilons[-1]:g} the smallest eigenvalue is "
        f"{power_of_ten(study.smallest_eigenvalue[-1])}, although the shallow minimum has none below "
        f"{power_of_ten(study.shallow_smallest)}: the point is nearly critical, and beside it the loss falls."
    )


def split_caption(result: DemoResult) -> str:
    """Say what the width split does to the minimum.

    Args:
        result: the study's result.

    Returns:
        Plain sentences.
    """
    study = result.split
    before, after, lifted = study.spectra
    return (
        f"Neuron {study.neuron} of layer {study.at!r} at {study.point} is copied; the copy takes {study.share:g} of "
        f"its output. The outputs stay the same to {power_of_ten(study.output_gap)} and the gradient norm is "
        f"{power_of_ten(after.gradient_norm)}, but the eigenvalue counts go from ({_counts(before)}) to "
        f"({_counts(after)}), with smallest eigenvalue {power_of_ten(after.eigenvalues[0], 1)}. The verdict goes from "
        f"{before.kind} to {after.kind}. Lifted after that: {_counts(lifted)}, {lifted.kind}."
    )


def when_a_minimum_becomes_a_saddle(result: DemoResult) -> str:
    """Say when a local minimum becomes a strict saddle, and when not, with what was measured here.

    Args:
        result: the study's result.

    Returns:
        One paragraph.
    """
    minima = {point.label for point in result.points if "minimum" in point.spectrum.kind}
    lifted = [lift for lift in result.lifts if lift.point in minima]
    descending = sum(lift.measured[0] > 0 for lift in lifted)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(lift.kind for lift in lifted).items()))
    split = result.split
    return (
        "A local minimum that is lifted exactly, with every sample strictly inside its affine pieces, stays a local "
        "minimum: near the lifted point the deeper risk is the shallow risk read through the chart, so the new "
        f"directions are flat. Here {len(lifted)} lifts of minima were measured; {descending} of them have a negative "
        f"eigenvalue ({kinds}). A descent opens elsewhere: at the boundary, where a sample lies on a kink (a one-sided "
        "saddle, not a strict one); near a lift through a smooth activation, which is not exactly critical (here up to "
        f"{max(result.smooth.negative)} negative eigenvalues); and after a width split of a layer that is not "
        f"linearized, which turned {split.point} into a {split.spectra[1].kind} with {split.spectra[1].inertia[0]} "
        f"negative eigenvalues, and it has {split.spectra[2].inertia[0]} after lifting as well. An exact lift can also "
        "be a strict saddle in the special case where the activation is nowhere affine but touches a line at every "
        "data point, as t + sin t can on binary inputs; this demo does not show it."
    )


def _counts(spectrum: Spectrum) -> str:
    """Write the counts in words."""
    negative, zero, positive = spectrum.inertia
    return f"{negative} negative, {zero} zero, {positive} positive"
