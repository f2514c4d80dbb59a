"""The report of a training run: how well it learns, and what that costs."""

from gradwire.report.training.page import brief, page

__all__ = ["brief", "page"]
