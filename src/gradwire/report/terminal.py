"""The folder of a run → the table that ends a command."""

from pathlib import Path

from rich.table import Table as RichTable

from gradwire.report import costs, network, speeds, study
from gradwire.report.leakage import leakage_table
from gradwire.report.membership import findings, membership_table
from gradwire.report.run import read
from gradwire.report.summary import summarise
from gradwire.report.tables import to_rich
from gradwire.report.training import follow, training_table


def table(folder: Path) -> RichTable:
    """A run's summary for `rich.console.Console.print`, made to fit 80 characters.

    Raises:
        GradwireError: as `read`: results.csv is missing, empty or lacks columns.
    """
    run = read(folder)
    if run.kind == "study":
        return to_rich(study.shown(run))
    if run.kind == "network":
        return to_rich(network.network_table(network.paces(run.rows), brief=True))
    if run.kind == "speed":
        return to_rich(speeds.speed_table(speeds.points(run.rows)))
    if run.kind == "cost":
        return to_rich(costs.cost_table(run.rows))
    if run.kind == "train":
        return to_rich(training_table(follow(run.rows), brief=True))
    if run.kind == "membership":
        return to_rich(membership_table(findings(run.rows), brief=True))
    return to_rich(leakage_table(summarise(run.rows), brief=True))
