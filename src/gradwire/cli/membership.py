"""gradwire membership: who was in the training set?"""

import click

from gradwire.cli.show import outcome, progress_bar, shared
from gradwire.cli.source import defaults

DEFAULT = defaults("gradwire.studies.membership.settings:MembershipSettings")


@click.command()
@shared
@click.option("--scheme", "schemes", multiple=True, default=DEFAULT.schemes, show_default=True, metavar="SPEC")
@click.option("--shadows", default=DEFAULT.shadows, show_default=True, help="Models a scheme; each is the target once.")
@click.option("--attack", "attacks", multiple=True, default=DEFAULT.attacks, show_default=True, help="Repeatable.")
@click.option("--threshold", "thresholds", multiple=True, default=DEFAULT.thresholds, show_default=True)
@click.option("--epochs", default=DEFAULT.epochs, show_default=True, help="Of each model, over its half.")
@click.option("--clients", default=DEFAULT.clients, show_default=True, help="Who train each model together.")
@click.option("--partition", default=DEFAULT.partition, show_default=True, help="iid, shards:2 or dirichlet:0.5.")
@click.option("--batch-size", default=DEFAULT.batch_size, show_default=True, help="Examples a client and round.")
@click.option("--lr", default=DEFAULT.lr, show_default=True)
@click.option("--momentum", default=DEFAULT.momentum, show_default=True)
@click.option("--weight-decay", default=DEFAULT.weight_decay, show_default=True)
@click.option("--optimizer", default=DEFAULT.optimizer, show_default=True, help="sgd or adam.")
@click.option("--schedule", default=DEFAULT.schedule, show_default=True, help="constant or cosine.")
@click.option("--augment", default=DEFAULT.augment, help="Ask for flip, shift or flip+shift of a candidate too.")
@click.option("--population", default=DEFAULT.population, show_default=True, help="Test images that are asked too.")
@click.option("--watched", default=DEFAULT.watched, show_default=True, help="Rounds seen by attacks on the wire.")
@click.option("--knowledge", default=DEFAULT.knowledge, show_default=True, help="Of those: naive, adaptive or both.")
@click.option("--canaries", default=DEFAULT.canaries, metavar="KIND:N", help="Audit ε with mislabelled:N or random:N.")
@click.option("--confidence", default=DEFAULT.confidence, show_default=True, help="Of intervals and bounds.")
@click.option("--together", default=DEFAULT.together, help="Models that train as one batch. [default: by device]")
@click.option("--precision", default=DEFAULT.precision, show_default=True, help="fp32 or bf16, of plain steps.")
@click.option("--channels-last", is_flag=True, help="Memory layout of plain steps.")
@click.option("--compile", is_flag=True, help="torch.compile for plain steps.")
@click.option("--jobs", default=1, show_default=True, help="Shadow batches at a time, each a process with one thread.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder: finished models stay.")
def membership(out: str | None, resume: str | None, jobs: int, **options: object) -> None:
    """Train shadow models as the target is trained, attack each of them, and report how well members are told.

    \b
    gradwire membership --data fashion_mnist:train=4000 --model lenet --scheme none --scheme topk:ratio=0.01
    gradwire membership --attack lira --attack cosine --watched 10 --canaries mislabelled:100
    """
    from gradwire.studies.membership import MembershipSettings, run_membership

    settings = MembershipSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_membership(settings, out, resume, jobs, progress)
    outcome(folder)
