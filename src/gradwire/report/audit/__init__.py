"""The report of an audit: what leaks, and what it costs."""

from gradwire.report.audit.page import brief, page

__all__ = ["brief", "page"]
