"""gradwire train: train, and write what it cost and how well it went."""

import click

from gradwire.cli.options import shared
from gradwire.cli.show import outcome, progress_bar
from gradwire.studies import run_training
from gradwire.training import TrainSettings

DEFAULT = TrainSettings()


@click.command()
@shared
@click.option("--scheme", default=DEFAULT.scheme, show_default=True, metavar="SPEC")
@click.option("--clients", default=DEFAULT.clients, show_default=True)
@click.option("--partition", default=DEFAULT.partition, show_default=True, help="iid, shards:2 or dirichlet:0.5.")
@click.option("--rounds", default=DEFAULT.rounds, show_default=True)
@click.option("--batch-size", default=DEFAULT.batch_size, show_default=True, help="Examples a client and round.")
@click.option("--lr", default=DEFAULT.lr, show_default=True)
@click.option("--momentum", default=DEFAULT.momentum, show_default=True)
@click.option("--weight-decay", default=DEFAULT.weight_decay, show_default=True)
@click.option("--eval-every", default=20, show_default=True, help="Rounds between two rows and checkpoints.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder, from its last checkpoint.")
def train(data: str, model: str, eval_every: int, out: str | None, resume: str | None, **options: object) -> None:
    """Train with a scheme, one gradient a client and round, and write what it cost and how well it went."""
    settings = TrainSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_training(data, model, settings, eval_every=eval_every, out=out, resume=resume, progress=progress)
    outcome(folder)
