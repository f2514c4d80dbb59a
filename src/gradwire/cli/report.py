"""gradwire report: the folder of a run → report.html."""

from pathlib import Path

import click

from gradwire.cli.show import outcome


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Write the report of the run in FOLDER again, and show its table."""
    outcome(Path(folder))
