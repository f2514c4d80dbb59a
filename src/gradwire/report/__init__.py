"""From the folder of a run to what people read: HTML, Markdown, LaTeX, figures and the table in the terminal."""

from gradwire.report.audit.leakage import leakage_table
from gradwire.report.audit.summary import Pair, Setting, Summary, pair, summarise
from gradwire.report.membership.findings import Finding, findings, membership_table
from gradwire.report.rows import (
    AUDIT_COLUMNS,
    COST_COLUMNS,
    EPSILON_COLUMNS,
    MEMBERSHIP_COLUMNS,
    NETWORK_COLUMNS,
    SPEED_COLUMNS,
    TRAIN_COLUMNS,
)
from gradwire.report.tables import Column, Table, to_latex, to_markdown, to_rich
from gradwire.report.training import Series, follow, training_table
from gradwire.report.writer import checks, printed, table, write

__all__ = [
    "AUDIT_COLUMNS",
    "COST_COLUMNS",
    "EPSILON_COLUMNS",
    "MEMBERSHIP_COLUMNS",
    "NETWORK_COLUMNS",
    "SPEED_COLUMNS",
    "TRAIN_COLUMNS",
    "Column",
    "Finding",
    "Pair",
    "Series",
    "Setting",
    "Summary",
    "Table",
    "checks",
    "findings",
    "follow",
    "leakage_table",
    "membership_table",
    "pair",
    "printed",
    "summarise",
    "table",
    "to_latex",
    "to_markdown",
    "to_rich",
    "training_table",
    "write",
]
