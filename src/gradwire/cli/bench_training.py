"""gradwire bench training and network: what compression costs in a step, and when a link is slow enough for it."""

import csv

import click
from rich.console import Console
from rich.table import Table

from gradwire.bench.network import RATES, measure
from gradwire.bench.training import hooks, selection
from gradwire.bench.wire import message_speeds
from gradwire.schemes import parse
from gradwire.studies.run import machine

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
@click.option("--batch-size", default=32, show_default=True)
@click.option("--latency", default=0.1, show_default=True, help="Milliseconds a message takes beside its bytes.")
def network(schemes: tuple[str, ...], model: str, batch_size: int, latency: float) -> None:
    """A step's time against the link's speed: compute, coding and bytes measured, the link modelled."""
    plain, *steps = measure(("none", *schemes), model, batch_size)
    table = Table(title=f"Modelled step of {model}, batch {batch_size}, {latency:g} ms a message, {machine('cpu')}")
    for heading in ("scheme", "compute ms", "coding ms", "MB", *RATES, "beats none below"):
        table.add_column(heading, justify="left" if heading == "scheme" else "right")
    for step in (plain, *steps):
        figures = [f"{1e3 * step.compute:.0f}", f"{1e3 * step.coding:.0f}", f"{step.bytes / 1e6:.2f}"]
        figures += [f"{step.seconds(rate, latency / 1e3):.2f} s" for rate in RATES.values()]
        crossing = step.beats(plain, latency / 1e3)
        table.add_row(step.scheme, *figures, "" if step is plain else f"{crossing / 1e9:.2f} Gbps")
    console = Console()
    console.print(table)
    console.print("Two network namespaces with a shaped link were not measured: this version models the link only.")
