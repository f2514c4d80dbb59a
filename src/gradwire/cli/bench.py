"""gradwire bench: speed, side by side with what is installed."""

import click
from rich.console import Console
from rich.table import Table

from gradwire.bench.inversion import inversion_speeds
from gradwire.bench.wire import index_costs, message_speeds
from gradwire.cli.bench_membership import membership
from gradwire.cli.bench_secure import secure
from gradwire.cli.bench_training import network, training
from gradwire.studies.run import machine
from gradwire.wire.view import Mode


@click.group()
def bench() -> None:
    """Measure speed and sizes on this machine."""


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


@bench.command()
@click.option("--model", default="lenet", show_default=True)
@click.option("--data", default="cifar10", show_default=True)
@click.option("--victims", multiple=True, type=int, default=(8, 64, 256), show_default=True, help="Repeatable.")
@click.option("--iterations", default=7, show_default=True, help="The median over these is shown.")
@click.option("--mode", type=click.Choice(["train", "eval"]), default="eval", show_default=True)
@click.option("--device", default="cpu", show_default=True)
def inversion(model: str, data: str, victims: tuple[int, ...], iterations: int, mode: Mode, device: str) -> None:
    """The inversion engine against the field's loop over images, in one process."""
    table = Table(title=f"{model} on {data}, {mode} mode, {machine(device)}")
    for heading in ("victims", "way", "ms an image and iteration", "× the loop", "objective reached"):
        table.add_column(heading, justify="right")
    for speed in inversion_speeds(model, data, victims, iterations, mode, device):
        figures = (f"{speed.milliseconds:.3f}", f"{speed.ratio:.1f}", f"{speed.objective:.4f}")
        table.add_row(str(speed.victims), speed.way, *figures)
    Console().print(table)


bench.add_command(secure)
