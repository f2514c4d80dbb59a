"""gradwire membership: who was in the training set?"""

import click

from gradwire.cli.show import outcome, progress_bar, settings_options


@click.command()
@settings_options("gradwire.studies.membership.settings:MembershipSettings")
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
