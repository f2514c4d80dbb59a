"""gradwire bench training: what compression costs in a step."""

import click

from gradwire.cli.show import figures, write_csv

DDP_SCHEMES = ("none", "powersgd:rank=4", "topk:ratio=0.01", "dgc:ratio=0.01", "qsgd", "signsgd")


@click.command()
@click.option("--scheme", "schemes", multiple=True, default=DDP_SCHEMES, show_default=True, metavar="SPEC")
@click.option("--steps", default=15, show_default=True, help="Timed steps of two processes.")
@click.option("--out", metavar="FILE", help="Write the figures to this CSV file as well.")
def training(schemes: tuple[str, ...], steps: int, out: str | None) -> None:
    """What compression costs in a step: selection, messages, and DDP's hooks beside PyTorch's own."""
    from rich.console import Console

    from gradwire.bench.training import hooks, selection
    from gradwire.bench.wire import message_speeds
    from gradwire.devices import machine
    from gradwire.schemes import parse

    for spec in schemes:
        parse(spec)
    found = [*selection(), *hooks(schemes, steps=steps)]
    headings = ("measured", "ms", "beside", "ms", "ratio")
    table = figures(f"ResNet-18 gradients, medians, {machine('cpu')}", *headings, words=("measured", "beside"))
    for figure in found:
        ours, theirs = (f"{1e3 * seconds:.1f}" for seconds in (figure.seconds, figure.reference_seconds))
        table.add_row(figure.what, ours, figure.reference, theirs, f"{figure.ratio:.2f}")
    console = Console()
    console.print(table)
    speeds = dict(zip(("encode", "decode"), message_speeds(), strict=True))
    console.print(", ".join(f"{name} {speed:.2f} GB/s" for name, speed in speeds.items()) + " (a message of 44.7 MB)")
    if out is not None:
        rows: list[tuple[object, ...]] = [(f.what, f.seconds, f.reference, f.reference_seconds, f.ratio) for f in found]
        rows += [(f"{name} a message, GB/s", speed, "", "", "") for name, speed in speeds.items()]
        write_csv(out, ("measured", "seconds", "beside", "beside_seconds", "ratio"), rows)
