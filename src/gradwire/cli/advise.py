"""gradwire advise: which defence for this model, these data, this link."""

import click

from gradwire.cli.show import outcome, progress_bar, settings_options

SCHEMES = "In place of every scheme with a few settings."
ALSO = "A scheme to screen beside those."


@click.command()
@settings_options("gradwire.studies.advise.settings:AdviseSettings", schemes=SCHEMES, also=ALSO)
@click.option("--resume", metavar="DIR", help="Go on with the screening in this folder, given the same options.")
@click.option("--jobs", default=2, show_default=True, help="Cells at a time, each a process with one thread.")
def advise(out: str | None, resume: str | None, jobs: int, **options: object) -> None:
    """Screen all schemes, and say what to take, what it leaves open, and what to run next.

    \b
    gradwire advise --link 100mbps
    gradwire advise --data mnist --model lenet --link 10MB/s --clients 10
    gradwire advise --scheme sga --scheme powersgd:rank=4 --noise 1 --budget 1
    """
    from gradwire.studies.advise import AdviseSettings
    from gradwire.studies.advise import advise as run_advise

    options = {name: value for name, value in options.items() if value not in ((), None)}
    settings = AdviseSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_advise(settings, out, resume, jobs, progress)
    outcome(folder)
