"""Studies: whole runs, from settings to a folder of results."""

from gradwire.studies.audit import audit
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.recorded import audit_recording
from gradwire.studies.training import run_training

__all__ = ["AuditSettings", "audit", "audit_recording", "run_training"]
