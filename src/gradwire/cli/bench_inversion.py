"""gradwire bench inversion: how fast the engine is, against the field's loop over images."""

import click

from gradwire.cli.show import outcome, progress_bar
from gradwire.cli.source import defaults

DEFAULT = defaults("gradwire.bench.inversion:InversionSettings")
PYTHON = "A Python that has breaching 0.1.2, which is then timed on the same images."


@click.command()
@click.option("--model", default=DEFAULT.model, show_default=True)
@click.option("--data", default=DEFAULT.data, show_default=True)
@click.option("--victims", multiple=True, type=int, default=DEFAULT.victims, show_default=True, help="Repeatable.")
@click.option("--iterations", default=DEFAULT.iterations, show_default=True, help="The median over these is shown.")
@click.option("--mode", type=click.Choice(["train", "eval"]), default=DEFAULT.mode, show_default=True)
@click.option("--device", default=DEFAULT.device, show_default=True)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=DEFAULT.precisions,
    show_default=True,
    help="fp32, tf32 or bf16. Repeatable.",
)
@click.option("--breaching", "python", default=DEFAULT.python, metavar="PYTHON", help=PYTHON)
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-inversion-<time>]")
def inversion(out: str | None, **options: object) -> None:
    """The inversion engine against the field's loop over images: speed, and the objective that each reaches.

    \b
    With breaching beside it, in an environment of its own:
      python -m venv field && field/bin/pip install breaching==0.1.2
      gradwire bench inversion --breaching field/bin/python
    """
    from gradwire.bench.inversion import InversionSettings
    from gradwire.bench.inversion_run import run_inversion

    settings = InversionSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_inversion(settings, out, progress)
    outcome(folder)
