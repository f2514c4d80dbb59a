"""The report of a membership run: who was in the training set?"""

from gradwire.report.membership.page import brief, page

__all__ = ["brief", "page"]
