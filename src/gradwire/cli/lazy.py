"""A group of commands, each imported when it is named."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands lie in modules of their own.

    Args:
        package: of the modules.
        modules: a command's name → the module in which it lies, and its name there.
    """

    def __init__(self, *arguments: Any, package: str, modules: Mapping[str, str], **options: Any):
        super().__init__(*arguments, **options)
        self._package, self._modules = package, modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the alphabet."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._modules:
            return None
        name = self._modules[cmd_name]
        found: click.Command = getattr(import_module(f"{self._package}.{name}"), name.removeprefix("bench_"))
        return found
