"""gradwire bench secure: what secure sums cost, beside Flower's where it is installed."""

import csv
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gradwire.bench.secure import COLUMNS, benchmark
from gradwire.errors import GradwireError


def _numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(float(part)) for part in text.split(","))
    except ValueError:
        raise GradwireError(f"--{option.name} is {text!r}; it must be numbers with commas between") from None
    if min(found) < 2:
        raise GradwireError(f"--{option.name} is {text!r}; every number must be at least 2")
    return found


@click.command()
@click.option(
    "--clients", default="4,10,30", show_default=True, callback=_numbers, help="Of the curve against clients."
)
@click.option("--entries", default="1e4,1e5,1e6", show_default=True, callback=_numbers, help="Of the curve against N.")
@click.option("--whole", default=100, show_default=True, help="Clients of the round compared with Flower's.")
@click.option("--flower", metavar="PYTHON", help="A Python that has flwr. [default: this one, if it has]")
@click.option("--out", metavar="FILE", help="Write the table there as CSV, too.")
def secure(clients: tuple[int, ...], entries: tuple[int, ...], whole: int, flower: str | None, out: str | None) -> None:
    """Time masks, whole rounds and their parts; seconds are a party's own, bytes those of its messages."""
    rows = list(benchmark(clients, entries, flower, whole))
    if out:
        try:
            with Path(out).open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise GradwireError(f"--out {out} cannot be written: {error.strerror}") from None
    table = Table(*COLUMNS, box=None)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values()))
    Console().print(table)
