"""gradwire train: train, and write what it cost and how well it went."""

from contextlib import AbstractContextManager, nullcontext

import click

from gradwire.cli.show import outcome, progress_bar, shared
from gradwire.cli.source import defaults
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent

DEFAULT = defaults("gradwire.training.settings:TrainSettings")


@click.command()
@shared
@click.option("--scheme", default=DEFAULT.scheme, show_default=True, metavar="SPEC")
@click.option("--clients", type=int, help=f"[default: {DEFAULT.clients}; under torchrun one a process]")
@click.option("--sample", type=int, help="Clients a round, drawn anew each time. [default: all]")
@click.option("--partition", default=DEFAULT.partition, show_default=True, help="iid, shards:2, dirichlet:0.5 …")
@click.option("--rounds", default=DEFAULT.rounds, show_default=True)
@click.option("--local-steps", type=int, help="Steps that a client takes in a round. [default: one gradient, sent]")
@click.option("--local-epochs", type=int, help="Passes of a client over its data in a round, instead.")
@click.option("--batch-size", default=DEFAULT.batch_size, show_default=True, help="Examples a client and step.")
@click.option("--average", default=DEFAULT.average, show_default=True, help="plain, or weighted by examples.")
@click.option("--lr", default=DEFAULT.lr, show_default=True, help="The clients' own, where they work locally.")
@click.option("--server-lr", default=DEFAULT.server_lr, show_default=True, help="Of the mean of local work.")
@click.option("--momentum", default=DEFAULT.momentum, show_default=True)
@click.option("--weight-decay", default=DEFAULT.weight_decay, show_default=True)
@click.option("--optimizer", default=DEFAULT.optimizer, show_default=True, help="sgd or adam.")
@click.option("--nesterov", is_flag=True, help="Nesterov's momentum.")
@click.option("--schedule", default=DEFAULT.schedule, show_default=True, help="constant or cosine.")
@click.option("--precision", default=DEFAULT.precision, show_default=True, help="fp32 or bf16, of clients' products.")
@click.option("--on-nan", default=DEFAULT.on_nan, show_default=True, help="stop, or skip the round and count it.")
@click.option("--drop-clients", default=0.0, show_default=True, help="Chance that a client is gone before a message.")
@click.option("--on-few", default=DEFAULT.on_few, show_default=True, help="stop, or skip a round too few clients end.")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds until a silent worker counts as gone.")
@click.option("--eval-every", default=20, show_default=True, help="Rounds between two rows and checkpoints.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder, from its last checkpoint.")
def train(
    data: str,
    model: str,
    eval_every: int,
    out: str | None,
    resume: str | None,
    clients: int | None,
    timeout: float,
    **options: object,
) -> None:
    """Train with a scheme, and write what it cost and how well it went.

    Each client of a round sends one gradient, or, with --local-steps or --local-epochs, what its own steps changed.

    \b
    Started by torchrun, each process is one client, and they train together:
      torchrun --nproc-per-node 2 -m gradwire train --scheme powersgd:rank=4
      torchrun --nnodes 2 --node-rank 0 --master-addr HOST --master-port 29500 --nproc-per-node 4 -m gradwire train
    """
    from gradwire.schemes import parse
    from gradwire.studies import run_training
    from gradwire.training import TrainSettings
    from gradwire.wire import Need, Transcript
    from gradwire.wire.rendezvous import joined, launched, world_size

    if launched():
        if clients not in (None, world_size()):
            raise GradwireError(f"clients is {clients}; torchrun started {world_size()} processes, one client each")
        clients = world_size()
    settings = TrainSettings(clients=DEFAULT.clients if clients is None else clients, **options)  # type: ignore[arg-type]
    if not launched():
        with progress_bar() as progress:
            folder = run_training(
                data, model, settings, eval_every=eval_every, out=out, resume=resume, progress=progress
            )
    else:
        apart = Need.SERVER in parse(settings.scheme).needs
        between = joined(settings.device, timeout, Transcript(keep=0), apart)
        with between as transport, _bar(transport.leads) as progress:
            folder = run_training(
                data,
                model,
                settings,
                eval_every=eval_every,
                out=out,
                resume=resume,
                transport=transport,
                progress=progress,
            )
    if folder is not None:
        outcome(folder)


def _bar(leads: bool) -> AbstractContextManager[Progress]:
    """A bar for the process that leads, none for the others."""
    return progress_bar() if leads else nullcontext(silent)
