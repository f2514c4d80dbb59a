"""gradwire bench training and network: what compression costs in a step, and when a link is slow enough for it."""

import csv
import json

import click
from rich.console import Console
from rich.table import Table

from gradwire.bench.network_run import NetworkSettings, run_network
from gradwire.bench.training import hooks, selection
from gradwire.bench.wire import message_speeds
from gradwire.cli.show import outcome, progress_bar
from gradwire.devices import machine
from gradwire.runs import CONFIG
from gradwire.schemes import parse

DDP_SCHEMES = ("none", "powersgd:rank=4", "topk:ratio=0.01", "dgc:ratio=0.01", "qsgd", "signsgd")


@click.command()
@click.option("--scheme", "schemes", multiple=True, default=DDP_SCHEMES, show_default=True, metavar="SPEC")
@click.option("--steps", default=15, show_default=True, help="Timed steps of two processes.")
@click.option("--out", metavar="FILE", help="Write the figures to this CSV file as well.")
def training(schemes: tuple[str, ...], steps: int, out: str | None) -> None:
    """What compression costs in a step: selection, messages, and DDP's hooks beside PyTorch's own."""
    for spec in schemes:
        parse(spec)
    figures = [*selection(), *hooks(schemes, steps=steps)]
    table = Table(title=f"ResNet-18 gradients, medians, {machine('cpu')}")
    for heading in ("measured", "ms", "beside", "ms", "ratio"):
        table.add_column(heading, justify="left" if heading in ("measured", "beside") else "right")
    for figure in figures:
        ours, theirs = (f"{1e3 * seconds:.1f}" for seconds in (figure.seconds, figure.reference_seconds))
        table.add_row(figure.what, ours, figure.reference, theirs, f"{figure.ratio:.2f}")
    console = Console()
    console.print(table)
    speeds = dict(zip(("encode", "decode"), message_speeds(), strict=True))
    console.print(", ".join(f"{name} {speed:.2f} GB/s" for name, speed in speeds.items()) + " (a message of 44.7 MB)")
    if out is not None:
        rows: list[tuple[object, ...]] = [
            (f.what, f.seconds, f.reference, f.reference_seconds, f.ratio) for f in figures
        ]
        rows += [(f"{name} a message, GB/s", speed, "", "", "") for name, speed in speeds.items()]
        with open(out, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("measured", "seconds", "beside", "beside_seconds", "ratio"))
            writer.writerows(rows)


@click.command()
@click.option("--scheme", "schemes", multiple=True, default=DDP_SCHEMES[1:], show_default=True, metavar="SPEC")
@click.option("--model", default="resnet18", show_default=True, help="On images of CIFAR-10's shape.")
@click.option("--batch-size", default=32, show_default=True, help="Images a worker.")
@click.option("--workers", default=2, show_default=True, help="In the model; real links join two.")
@click.option("--latency", default=0.1, show_default=True, help="Milliseconds a message takes beside its bytes.")
@click.option("--real/--no-real", default=True, show_default=True, help="Measure on shaped links as well.")
@click.option("--steps", default=3, show_default=True, help="Steps of each scheme on each of these.")
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-network-<time>]")
def network(
    schemes: tuple[str, ...],
    model: str,
    batch_size: int,
    workers: int,
    latency: float,
    real: bool,
    steps: int,
    out: str | None,
) -> None:
    """A step's time against the link's speed, and the speed below which each scheme beats plain SGD.

    Compute, coding and bytes are measured, the link is modelled; where the kernel lets this user shape links, steps
    between two network namespaces are measured as well.
    """
    settings = NetworkSettings(schemes, model, batch_size, workers, latency / 1e3, real, steps)
    with progress_bar() as progress:
        folder = run_network(settings, out, progress)
    for note in json.loads((folder / CONFIG).read_text())["notes"]:
        click.echo(note)
    outcome(folder)
