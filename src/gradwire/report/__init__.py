"""From the folder of a run to what people read: HTML, Markdown, LaTeX, figures and the table in the terminal."""

from gradwire.report.leakage import leakage_table
from gradwire.report.membership import Finding, findings, membership_table
from gradwire.report.rows import (
    AUDIT_COLUMNS,
    COST_COLUMNS,
    MEMBERSHIP_COLUMNS,
    NETWORK_COLUMNS,
    SPEED_COLUMNS,
    TRAIN_COLUMNS,
)
from gradwire.report.summary import Pair, Setting, Summary, pair, summarise
from gradwire.report.tables import Column, Table, to_latex, to_markdown, to_rich
from gradwire.report.terminal import table
from gradwire.report.training import Series, follow, training_table
from gradwire.report.writer import write

__all__ = [
    "AUDIT_COLUMNS",
    "COST_COLUMNS",
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
    "findings",
    "follow",
    "leakage_table",
    "membership_table",
    "pair",
    "summarise",
    "table",
    "to_latex",
    "to_markdown",
    "to_rich",
    "training_table",
    "write",
]
