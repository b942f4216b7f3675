"""One-file offline reports: no numerics, only what a result already holds."""

from liftscape.report._demo import render_demo_page, write_demo_report

__all__ = ["render_demo_page", "write_demo_report"]
