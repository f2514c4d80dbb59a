"""gradwire bench federated: rounds a second, beside a plain loop, Flower and pfl."""

import click

from gradwire.cli.show import figures, write_csv
from gradwire.errors import unknown

KNOWN = ("lenet", "mlp", "cnn")


@click.command()
@click.option("--setting", "names", multiple=True, default=KNOWN, show_default=True, help="Repeatable.")
@click.option("--rounds", default=6, show_default=True, help="Of each; the first is not counted.")
@click.option("--flower", metavar="PYTHON", help="A Python that has flwr[simulation].")
@click.option("--pfl", metavar="PYTHON", help="A Python that has pfl and torch.")
@click.option("--out", metavar="FILE", help="Write the table there as CSV, too.")
def federated(names: tuple[str, ...], rounds: int, flower: str | None, pfl: str | None, out: str | None) -> None:
    """Federated averaging, one local epoch: rounds a second, memory, and the loss that equal work leads to."""
    from rich.console import Console

    from gradwire.bench.federated import COLUMNS, SETTINGS, paces
    from gradwire.devices import machine

    for name in names:
        if name not in SETTINGS:
            raise unknown("setting", name, SETTINGS)
    others = {name: python for name, python in (("flower", flower), ("pfl", pfl)) if python}
    console = Console()
    for name in {"flower", "pfl"} - set(others):
        console.print(f"{name} is left out: no Python that has it was named (--{name}).")
    rows = []
    for name in names:
        headings = ("by", "rounds/s", "× the loop", "MB a client", "test loss", "how")
        table = figures(f"{SETTINGS[name].name}; {machine('cpu')}", *headings, words=("by", "how"))
        for pace in paces(SETTINGS[name], rounds, others):
            memory = "" if pace.megabytes_a_client is None else f"{pace.megabytes_a_client:.1f}"
            told = (f"{pace.rounds_per_second:.3g}", f"{pace.times_loop:.2f}", memory, f"{pace.test_loss:.4f}")
            table.add_row(pace.by, *told, pace.how)
            rows.append(pace.row())
        console.print(table)
    if out:
        write_csv(out, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
