"""gradwire bench membership: what a shadow model costs."""

from typing import Literal

import click

from gradwire.cli.show import figures

MINUTES, SHADOWS = 10, 64


@click.command()
@click.option("--model", default="lenet", show_default=True)
@click.option("--data", default="fashion_mnist", show_default=True)
@click.option("--images", default=10_000, show_default=True, help="Of one shadow; an epoch passes over all of them.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--clients", default=4, show_default=True, help="Who share a batch where a scheme is in use.")
@click.option("--scheme", "schemes", multiple=True, default=("none", "topk:ratio=0.01"), show_default=True)
@click.option("--together", multiple=True, type=int, default=(8,), show_default=True, help="Networks as one batch.")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16.")
@click.option("--channels-last", is_flag=True)
@click.option("--compile", is_flag=True, help="torch.compile.")
@click.option("--repeats", default=3, show_default=True, help="Of plain steps; the median is shown.")
@click.option("--device", default="cpu", show_default=True)
def membership(
    model: str,
    data: str,
    images: int,
    batch_size: int,
    clients: int,
    schemes: tuple[str, ...],
    together: tuple[int, ...],
    precision: Literal["fp32", "bf16"],
    channels_last: bool,
    compile: bool,
    repeats: int,
    device: str,
) -> None:
    """Seconds of a shadow and epoch: by ordinary PyTorch, by plain steps alone and together, and over the wire."""
    from rich.console import Console

    from gradwire.bench.membership import epochs, pool
    from gradwire.devices import machine
    from gradwire.schemes import parse
    from gradwire.training.plain import Speed

    for scheme in schemes:
        parse(scheme)
    speed = Speed(precision=precision, channels_last=channels_last, compile=compile)
    title = f"An epoch of {model}: {images:,} images of {data}, batch {batch_size}, {precision}"
    headings = ("networks", "s each", "CPU s", "speed-up", f"{SHADOWS} in {MINUTES} min")
    table = figures(title, "way", *headings, words=("way",))
    for found in epochs(model, pool(data, images), schemes, clients, batch_size, together, speed, device, repeats):
        told = (f"{found.seconds:.2f}", f"{found.processor:.2f}", f"{found.ratio:.2f}")
        possible = 60 * MINUTES / (SHADOWS * found.seconds)
        table.add_row(found.way, str(found.networks), *told, f"{possible:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{machine(device)}. Whole epochs were run. The last column is a division: epochs of {SHADOWS} networks,"
    )
    console.print(f"one after another in this process, in {MINUTES} minutes.")
