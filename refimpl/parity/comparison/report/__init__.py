"""The report of a comparison as one HTML file, to be read offline."""

from refimpl.parity.comparison.report.page import LIMIT, render
from refimpl.parity.comparison.report.writing import write_report

__all__ = ["LIMIT", "render", "write_report"]
