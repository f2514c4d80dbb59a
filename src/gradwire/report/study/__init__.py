"""The report of a study: what is claimed of it, and a table and a figure for each command that it has cells of."""

from gradwire.report.study.page import brief, page

__all__ = ["brief", "page"]
