"""gradwire list: what there is to choose from."""

import shutil
import textwrap
from typing import Any

import click

from gradwire import papers, registry, spec_syntax
from gradwire.cli.source import REQUIRED, Expression, describe

ROOM = 40, 120
"""The narrowest and the widest lines."""
INDENT = 20
GIVEN = {"models": ("vocabulary", "length", "pad"), "carriers": ("transcript", "group")}
"""Parameters that no spec gives: what a network learns of its data, and what a carrier is opened with."""


@click.command(name="list")
def catalogue() -> None:
    """List schemes, attacks, studies, models, data sets and carriers, with their parameters."""
    width = min(max(shutil.get_terminal_size().columns, ROOM[0]), ROOM[1])
    indent = " " * INDENT
    click.echo(click.style("studies", bold=True))
    studies = {name: papers.study(name)["title"] for name in papers.names()}
    for name, text in {**studies, **{f"{paper}-…": f'of "{title}"' for paper, title in papers.PAPERS.items()}}.items():
        line = f"{name:{INDENT - 3}} {text}"
        click.echo(textwrap.fill(line, width, initial_indent="  ", subsequent_indent=indent))
    for title, known in (
        ("schemes", registry.SCHEMES),
        ("attacks", registry.ATTACKS),
        ("membership attacks", registry.MEMBERSHIP),
        ("studies elsewhere", registry.STUDIES),
        ("models", registry.MODELS),
        ("data", registry.DATA),
        ("carriers", registry.CARRIERS),
    ):
        if not known.targets():
            continue
        click.echo(click.style(title, bold=True))
        for name, place in known.targets().items():
            found, left = describe(place), GIVEN.get(title, ())
            takes = ", ".join(_parameter(key, default) for key, default in found.parameters.items() if key not in left)
            words = (f"{name:{INDENT - 3}} {takes}".rstrip(), found.doc)
            for text, first in zip(words, ("  ", indent), strict=True):
                if text:
                    click.echo(textwrap.fill(text, width, initial_indent=first, subsequent_indent=indent))


def _parameter(name: str, default: Any) -> str:
    """A parameter with its default, as a spec has it: `?` where it has to be given, nothing where it may be."""
    if default is REQUIRED:
        return f"{name}=?"
    if default is None:
        return name
    return f"{name}={default.text if isinstance(default, Expression) else spec_syntax.text(default)}"
