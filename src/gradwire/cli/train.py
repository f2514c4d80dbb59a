"""gradwire train: train, and write what it cost and how well it went."""

from contextlib import nullcontext
from functools import partial

import click

from gradwire.cli.show import outcome, progress_bar, settings_options
from gradwire.cli.source import defaults
from gradwire.errors import GradwireError
from gradwire.progress import silent

SETTINGS = "gradwire.training.settings:TrainSettings"
CLIENTS = defaults(SETTINGS).clients


@click.command()
@settings_options(
    SETTINGS,
    omit=("clients",),
    sample="Clients a round, drawn anew each time. [default: all]",
    partition="iid, shards:2, dirichlet:0.5 …",
    rounds="How many; one step along the mean each.",
    local_steps="Steps that a client takes in a round. [default: one gradient, sent]",
    local_epochs="Passes of a client over its data in a round, instead.",
    batch_size="Examples a client and step.",
    average="plain, or weighted by examples.",
    optimizer="sgd or adam.",
    lr="The clients' own, where they work locally.",
    server_lr="Of the mean of local work. [default: 1]",
    nesterov="Nesterov's momentum.",
    schedule="Of lr: constant or cosine.",
    on_nan="stop, or skip the round and count it.",
    drop_clients="Chance that a client is gone before a message.",
    on_few="stop, or skip a round too few clients end.",
    precision="fp32 or bf16, of clients' products.",
)
@click.option("--clients", type=int, help=f"[default: {CLIENTS}; under torchrun one a process]")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds until a silent worker counts as gone.")
@click.option("--eval-every", default=20, show_default=True, help="Rounds between two rows and checkpoints.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder, from its last checkpoint.")
@click.option("--carrier", metavar="SPEC", help="Of the messages in one process. [default: inprocess]")
@click.option("--identity", metavar="FILE", help="Key of this process's client (gradwire identity new FILE).")
@click.option("--members", metavar="FILE", help="With --identity: a line for each client that may join.")
@click.option("--by-client", is_flag=True, help="Judge the model on each client's own examples too: clients.csv.")
@click.option("--record", metavar="FILE", help="Write the last round, for gradwire audit --transcript.")
def train(
    data: str,
    model: str,
    eval_every: int,
    out: str | None,
    resume: str | None,
    carrier: str | None,
    record: str | None,
    by_client: bool,
    identity: str | None,
    members: str | None,
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
    from gradwire.registry import CARRIERS
    from gradwire.schemes import parse
    from gradwire.secure.identity_files import Identities
    from gradwire.studies import run_training
    from gradwire.training import TrainSettings
    from gradwire.wire import Need, Transcript
    from gradwire.wire.rendezvous import joined, launched, world_size

    if launched():
        if carrier is not None:
            raise GradwireError(f"carrier is {carrier!r}; torchrun's processes are joined by its own, so leave it out")
        if clients not in (None, world_size()):
            raise GradwireError(f"clients is {clients}; torchrun started {world_size()} processes, one client each")
        clients = world_size()
    settings = TrainSettings(clients=CLIENTS if clients is None else clients, **options)  # type: ignore[arg-type]
    run = partial(run_training, data, model, settings, eval_every=eval_every, out=out, resume=resume, record=record)
    if (identity is None) != (members is None) or (identity and not launched()):
        raise GradwireError("--identity and --members go together, for a client in a process of its own (torchrun)")
    identities = Identities.load(identity, members) if identity and members else None
    run = partial(run, by_client=by_client, identities=identities)
    if not launched():
        transport = CARRIERS.parse(carrier or "inprocess")
        transport.transcript.keep = 1
        with progress_bar() as progress:
            folder = run(transport=transport, progress=progress)
    else:
        apart = Need.SERVER in parse(settings.scheme).needs
        between = joined(settings.device, timeout, Transcript(keep=0 if record is None else 1), apart)
        with between as transport, progress_bar() if transport.leads else nullcontext(silent) as progress:
            folder = run(transport=transport, progress=progress)
    if folder is not None:
        outcome(folder)
