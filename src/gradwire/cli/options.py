"""Options that several commands share."""

from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., None])


def shared(function: F) -> F:
    """--data, --model, --seed, --device, --out."""
    for option in (
        click.option("--out", metavar="DIR", help="Folder to write. [default: runs/<command>-<time>]"),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …"),
        click.option("--seed", default=0, show_default=True, help="Decides everything that is random."),
        click.option("--model", default="convnet", show_default=True, metavar="NAME|PACKAGE.MODULE:FACTORY"),
        click.option("--data", default="digits", show_default=True, metavar="NAME|DIR", help="Data set or folder."),
    ):
        function = option(function)
    return function
