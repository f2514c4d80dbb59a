"""What commands show while they work, and when they are done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gradwire import report


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage, with the time left; yields the function that moves it: (stage, done, total)."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield move


def outcome(folder: Path) -> None:
    """Show a run's table, write its report, and name it."""
    written = report.write(folder)
    Console().print(report.table(folder))
    click.echo(f"report: {written}")
