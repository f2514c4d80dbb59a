"""Audits of secure sums by a server that lies."""

from gradwire.studies.active.audit import active_audit

__all__ = ["active_audit"]
