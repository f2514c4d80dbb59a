"""gradwire study: a whole published table or figure, or a grid of one's own; gradwire report."""

from pathlib import Path

import click

from gradwire.cli.show import outcome, progress_bar


@click.command()
@click.argument("study", metavar="NAME[:key=value,…]|FILE.toml")
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/study-<name>-<time>]")
@click.option("--resume", metavar="DIR", help="Go on with the study in this folder: finished cells stay.")
@click.option("--jobs", default=1, show_default=True, help="Cells at a time, each a process with one thread.")
def study(study: str, out: str | None, resume: str | None, jobs: int) -> None:
    """Run a grid of trainings or audits, and check what is claimed of it.

    \b
    gradwire study compression:epochs=5,seeds=3
    gradwire study mine.toml, with in it
      command = "train"
      [settings]
      data = "digits"
      model = "mlp"
      [grid]
      scheme = ["none", "topk:ratio=0.01"]
      seed = [0, 1, 2]
    """
    from gradwire.studies.cells import RUNNERS
    from gradwire.studies.grid import run_study
    from gradwire.studies.own import find

    with progress_bar() as progress:
        folder = run_study(find(study), RUNNERS, out, resume, jobs, progress)
    outcome(folder)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Write the report of the run in FOLDER again, and show its table."""
    outcome(Path(folder))
