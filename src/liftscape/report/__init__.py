"""One-file offline reports: no numerics, only what a result already holds."""

from liftscape.report._demo import render_demo_page, write_demo_report
from liftscape.report._inspection import layer_rows, reading_rows, write_inspection_report
from liftscape.report._landscape import plot_slice, plot_surface
from liftscape.report._page import check_folder

__all__ = [
    "check_folder",
    "layer_rows",
    "plot_slice",
    "plot_surface",
    "reading_rows",
    "render_demo_page",
    "write_demo_report",
    "write_inspection_report",
]
