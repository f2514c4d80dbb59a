"""gradwire bench network: when a link is slow enough for compression."""

import click

from gradwire.cli.bench_training import DDP_SCHEMES
from gradwire.cli.show import outcome, progress_bar


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
    from gradwire.bench.network_run import NetworkSettings, run_network
    from gradwire.report.run import read

    settings = NetworkSettings(schemes, model, batch_size, workers, latency / 1e3, real, steps)
    with progress_bar() as progress:
        folder = run_network(settings, out, progress)
    for note in read(folder).notes:
        click.echo(note)
    outcome(folder)
