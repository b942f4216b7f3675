"""Figures, and one-file offline reports: no numerics, only what a result already holds.

The names beyond `__all__` are for the command line and the studies.
"""

from liftscape.report._demo import render_demo_page as render_demo_page
from liftscape.report._demo import write_demo_report as write_demo_report
from liftscape.report._inspection import layer_rows as layer_rows
from liftscape.report._inspection import reading_rows as reading_rows
from liftscape.report._inspection import use_rows as use_rows
from liftscape.report._inspection import write_inspection_report as write_inspection_report
from liftscape.report._landscape import plot_slice, plot_surface
from liftscape.report._page import check_folder as check_folder
from liftscape.report._study import claim_rows as claim_rows
from liftscape.report._study import claims_as_markdown as claims_as_markdown
from liftscape.report._study import verdicts_as_markdown as verdicts_as_markdown
from liftscape.report._study import write_studies_report as write_studies_report
from liftscape.report._study import write_study_report as write_study_report

__all__ = ["plot_slice", "plot_surface"]
