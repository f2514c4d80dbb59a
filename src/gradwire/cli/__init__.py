"""The command line. No logic of its own: it reads options, calls a study, and shows what came of it.

A command imports what it runs when it runs: help needs no torch, which takes seconds.
"""

import sys
from collections.abc import Sequence

import click

from gradwire.cli.advise import advise
from gradwire.cli.audit import audit
from gradwire.cli.bench import bench
from gradwire.cli.catalogue import catalogue
from gradwire.cli.identity import identity
from gradwire.cli.membership import epsilon, membership
from gradwire.cli.study import report, study
from gradwire.cli.train import train
from gradwire.errors import GradwireError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gradwire")
def gradwire() -> None:
    """Train models together over a wire, and see what that wire gives away."""


for command in (audit, train, membership, epsilon, advise, study, report, bench, identity, catalogue):
    gradwire.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; whatever the user can put right is one line and exit status 2."""
    try:
        gradwire(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        where = f"{error.ctx.command_path}: " if error.ctx else ""
        click.echo(f"{where}{error.format_message()}", err=True)
        sys.exit(2)
    except (GradwireError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"gradwire: {message}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "gradwire"):
            raise
        click.echo(
            f"gradwire: this needs {missing}, which is not installed; install gradwire with its dependencies", err=True
        )
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has gone
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"gradwire: {where}{error.strerror or error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("gradwire: interrupted; rows finished so far are in results.csv", err=True)
        sys.exit(130)
