"""gradwire study: whole published tables and figures, or a grid of one's own; gradwire report."""

from pathlib import Path

import click

from gradwire.cli.show import figures, outcome, progress_bar, show


@click.command()
@click.argument("study", metavar="NAME[:key=value,…]|FILE.toml|list|show|findings")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--scale", default="desk", show_default=True, help="smoke (two minutes), desk (an hour) or paper.")
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/study-<name>-<time>]")
@click.option("--resume", metavar="DIR", help="Go on with the study in this folder: finished cells stay.")
@click.option("--jobs", default=1, show_default=True, help="Cells at a time, each a process with one thread.")
@click.option("--engine", default="", metavar="URL", help="dask://HOST:PORT instead of --jobs.")
@click.option("--dry-run", is_flag=True, help="List the cells, and what is left of the cost, and run nothing.")
def study(
    study: str, name: str | None, scale: str, out: str | None, resume: str | None, jobs: int, engine: str, dry_run: bool
) -> None:
    """Run a grid of trainings and audits, and judge what is claimed of it.

    \b
    gradwire study list                   what there is
    gradwire study show trust-table1      its cells, tables and claims
    gradwire study compression:seeds=3    other settings than its own
    gradwire study findings results       docs/findings.md from committed tables
    gradwire study mine.toml              a grid of one's own, with in it
      command = "train"
      [settings]
      data = "digits"
      model = "mlp"
      [grid]
      scheme = ["none", "topk:ratio=0.01"]
      seed = [0, 1, 2]
    """
    from gradwire import papers

    if study == "list":
        table = figures("studies", "name", "title", words=("name", "title"))
        for each in papers.names():
            table.add_row(each, papers.study(each).get("title", ""))
        show(table)
    elif study == "findings":
        from gradwire.studies.findings import findings

        click.echo(findings(Path(name or "results")), nl=False)
    elif study == "show" or dry_run:
        from gradwire.studies.described import described
        from gradwire.studies.plan import find

        click.echo(described(find(name if study == "show" and name else study, scale), resume, jobs), nl=False)
    else:
        from gradwire.runs import RESULTS, read_table
        from gradwire.studies.grid import run_study
        from gradwire.studies.plan import find

        if name is not None:
            raise click.UsageError(f"one study at a time; {name!r} is one too many")
        with progress_bar() as progress:
            folder = run_study(find(study, scale), out, resume, jobs, engine, progress)
        outcome(folder)
        if failed := {row["cell"] for row in read_table(folder / RESULTS) if row["failed"]}:
            click.echo(f"{len(failed)} cells failed; go on with --resume {folder}", err=True)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Write the report of the run in FOLDER again, and show its table."""
    outcome(Path(folder))
