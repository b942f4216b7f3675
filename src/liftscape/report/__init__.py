"""One-file offline reports: no numerics, only what a result already holds."""

from liftscape.report._demo import render_demo_page, write_demo_report
from liftscape.report._inspection import layer_rows, reading_rows, use_rows, write_inspection_report
from liftscape.report._landscape import plot_slice, plot_surface
from liftscape.report._page import check_folder
from liftscape.report._study import claim_rows, claims_as_markdown, write_studies_report, write_study_report

__all__ = [
    "check_folder",
    "claim_rows",
    "claims_as_markdown",
    "layer_rows",
    "plot_slice",
    "plot_surface",
    "reading_rows",
    "render_demo_page",
    "use_rows",
    "write_demo_report",
    "write_inspection_report",
    "write_studies_report",
    "write_study_report",
]
