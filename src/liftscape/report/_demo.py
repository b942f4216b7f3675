"""The report of the embedding-principle study: figures, one offline page, and the result as JSON."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from liftscape._files import write_atomically
from liftscape.report import _captions, _curves
from liftscape.report._rows import lift_groups, lift_rows, point_rows, settings_rows
from liftscape.report._spectra import draw_spectra
from liftscape.report._style import figure_style
from liftscape.report._svg import Panel, render
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
                ("path", _curves.draw_loss_along_and_across(path), _captions.path_caption(result)),
                ("path-change", _curves.draw_relative_change(path), _captions.path_caption(result)),
            ],
            "training": [
                ("training", _curves.draw_training(training), _captions.training_caption(result)),
                ("training-levels", _curves.draw_training_near_levels(training), _captions.training_caption(result)),
            ],
            "smooth": [
                ("smooth-error", _curves.draw_smooth_errors(smooth), _captions.smooth_caption(result)),
                ("smooth-curvature", _curves.draw_negative_curvature(smooth), _captions.smooth_caption(result)),
            ],
            "split": [
                ("split", draw_spectra(f"{split.point}, one neuron split", split.spectra), _describe(split.spectra))
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
    environment = Environment(
        loader=PackageLoader("liftscape.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ten"] = _captions.power_of_ten
    templates = files("liftscape.report") / "templates"
    return environment.get_template("demo.html").render(
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
            "minimum": _captions.when_a_minimum_becomes_a_saddle(result),
        },
        points=point_rows(result),
        groups=lift_groups(result),
        lifts=lift_rows(result),
        settings=settings_rows(result),
        style=Markup((templates / "page.css").read_text(encoding="utf-8")),
        script=Markup((templates / "page.js").read_text(encoding="utf-8")),
    )


def write_demo_report(result: DemoResult, out: Path) -> Path:
    """Write ``report.html`` (one file), its figures as SVG and PNG, and ``result.json``: same result, same bytes.

    Every file is written beside its place and moved there, the page last, so that a report is never half there.

    Args:
        result: what :func:`liftscape.studies.embedding_principle.run` returned.
        out: the folder; made if it does not exist.

    Returns:
        The path of the page.
    """
    panels = draw_panels(result)
    page = render_demo_page(result, panels)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for group in panels.values():
        for panel in group:
            write_atomically(figures / f"{panel.name}.svg", panel.svg)
            write_atomically(figures / f"{panel.name}.png", panel.png)
    write_atomically(out / "result.json", result.to_json().encode("utf-8"))
    write_atomically(out / "report.html", page.encode("utf-8"))
    return out / "report.html"


def _describe(family: tuple) -> str:
    """Say what a panel of spectra shows, for readers who cannot see it."""
    return "; ".join(
        "{}: {} negative, {} zero and {} positive eigenvalues, {}".format(
            spectrum.label, *spectrum.inertia, spectrum.kind
        )
        for spectrum in family
    )
