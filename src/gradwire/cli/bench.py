"""gradwire bench: speed, side by side with what is installed."""

import click
from rich.console import Console
from rich.table import Table

from gradwire.bench.wire import index_costs, message_speeds
from gradwire.cli.bench_federated import federated
from gradwire.cli.bench_inversion import inversion
from gradwire.cli.bench_membership import membership
from gradwire.cli.bench_secure import secure
from gradwire.cli.bench_training import network, training
from gradwire.devices import machine


@click.group()
def bench() -> None:
    """Measure speed and sizes on this machine."""


bench.add_command(inversion)
bench.add_command(federated)
bench.add_command(training)
bench.add_command(network)
bench.add_command(membership)


@bench.command()
def wire() -> None:
    """Bytes an index of sparse messages, and how fast messages are made and read."""
    table = Table(title=f"Positions out of 11,173,962 entries, {machine('cpu')}")
    for heading in ("density", "indices", "bytes an index", "no code below", "encode M/s", "decode M/s"):
        table.add_column(heading, justify="right")
    for cost in index_costs():
        figures = (f"{cost.bytes_each:.2f}", f"{cost.bound:.2f}", f"{cost.encode:.1f}", f"{cost.decode:.1f}")
        table.add_row(f"{cost.density:g}", f"{cost.count:,}", *figures)
    console = Console()
    console.print(table)
    encode, decode = message_speeds()
    console.print(f"a message of 44.7 MB: encode {encode:.2f} GB/s, decode {decode:.2f} GB/s")


bench.add_command(secure)
