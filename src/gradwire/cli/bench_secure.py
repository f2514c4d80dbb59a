"""gradwire bench secure: what secure sums cost, beside Flower's where it is installed."""

import click

from gradwire.cli.show import outcome
from gradwire.errors import GradwireError


def _numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(float(part)) for part in text.split(","))
    except ValueError:
        raise GradwireError(f"--{option.name} is {text!r}; it must be numbers with commas between") from None
    if min(found) < 2:
        raise GradwireError(f"--{option.name} is {text!r}; every number must be at least 2")
    return found


@click.command()
@click.option(
    "--clients", default="10,30,100", show_default=True, callback=_numbers, help="Of the curve against clients."
)
@click.option("--entries", default="1e4,1e5,1e6", show_default=True, callback=_numbers, help="Of the curve against N.")
@click.option("--whole", default=100, show_default=True, help="Clients of the round compared with Flower's.")
@click.option("--flower", metavar="PYTHON", help="A Python that has flwr. [default: this one, if it has]")
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-secure-<time>]")
def secure(clients: tuple[int, ...], entries: tuple[int, ...], whole: int, flower: str | None, out: str | None) -> None:
    """Time masks, whole rounds and their parts; seconds are a party's own, bytes those of its messages."""
    from gradwire.bench.secure_run import run_secure

    outcome(run_secure(clients, entries, flower, whole, out))
