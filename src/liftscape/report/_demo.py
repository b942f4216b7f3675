"""The report of the embedding-principle study: figures, one offline page, and the result as JSON."""

from pathlib import Path
from typing import Any

from liftscape.report import _captions, _demo_curves, _escapes
from liftscape.report._page import render_page, write_report
from liftscape.report._spectra import draw_spectra
from liftscape.report._style import figure_style
from liftscape.report._svg import Panel, render
from liftscape.report._table_texts import lift_groups, lift_rows, point_rows, settings_rows
from liftscape.studies.embedding_principle_result import DemoResult

__all__ = ["render_demo_page", "write_demo_report"]


def draw_panels(result: DemoResult) -> dict[str, list[Panel]]:
    """Draw every panel of the report, by section.

    Args:
        result: the study's result.

    Returns:
        Panels by section name.
    """
    path, training, smooth, split = result.path, result.training, result.smooth, result.split
    escape = result.escape
    with figure_style():
        drawn: dict[str, list[tuple[str, Any, str]]] = {
            "spectra": [
                (
                    f"spectra-{index + 1}",
                    draw_spectra(f"{family[0].label}, shallow and lifted", family),
                    _describe(family),
                )
                for index, family in enumerate(result.spectra)
            ],
            "path": [
                ("path", _demo_curves.draw_loss_along_and_across(path), _captions.path_caption(result)),
                ("path-change", _demo_curves.draw_relative_change(path), _captions.path_caption(result)),
            ],
            "training": [
                ("training", _demo_curves.draw_training(training), _captions.training_caption(result)),
                (
                    "training-levels",
                    _demo_curves.draw_training_near_levels(training),
                    _captions.training_caption(result),
                ),
            ],
            "smooth": [
                ("smooth-error", _demo_curves.draw_smooth_errors(smooth), _captions.smooth_caption(result)),
                ("smooth-curvature", _demo_curves.draw_negative_curvature(smooth), _captions.smooth_caption(result)),
            ],
            "split": [
                ("split", draw_spectra(f"{split.point}, one neuron split", split.spectra), _describe(split.spectra))
            ],
            "escape": [
                ("escape-path", _escapes.draw_escape_paths(escape), _escapes.escape_caption(escape)),
                ("escape-training", _escapes.draw_escape_training(escape), _escapes.escape_caption(escape)),
            ],
        }
    return {section: [render(name, figure, alt) for name, figure, alt in group] for section, group in drawn.items()}


def render_demo_page(result: DemoResult, panels: dict[str, list[Panel]]) -> str:
    """Return the report as one HTML page that loads nothing.

    Args:
        result: the study's result.
        panels: its panels by section.

    Returns:
        The page.
    """
    return render_page(
        "demo.html",
        result=result,
        panels=panels,
        captions={
            "verdict": _captions.verdict(result),
            "find": _captions.find_caption(result),
            "spectra": _captions.spectra_caption(result),
            "path": _captions.path_caption(result),
            "training": _captions.training_caption(result),
            "smooth": _captions.smooth_caption(result),
            "split": _captions.split_caption(result),
            "escape": _escapes.escape_caption(result.escape),
            "minimum": _captions.when_a_minimum_becomes_a_saddle(result),
        },
        points=point_rows(result),
        groups=lift_groups(result),
        lifts=lift_rows(result),
        settings=settings_rows(result),
    )


def write_demo_report(result: DemoResult, out: Path) -> Path:
    """Write ``report.html`` (one file), its figures as SVG and PNG, and ``result.json``: same result, same bytes.

    Args:
        result: what :func:`liftscape.studies.embedding_principle.run` returned.
        out: the folder; made if it does not exist.

    Returns:
        The path of the page.

    Raises:
        LoadError: if the folder is a file, or holds another ``report.html``.
    """
    panels = draw_panels(result)
    return write_report(out, render_demo_page(result, panels), panels, result.to_json())


def _describe(family: tuple) -> str:
    """Say what a panel of spectra shows, for readers who cannot see it."""
    return "; ".join(
        "{}: {} negative, {} zero and {} positive eigenvalues, {}".format(
            spectrum.label, *spectrum.inertia, spectrum.kind
        )
        for spectrum in family
    )
