"""gradwire bench: speed, side by side with what is installed."""

import click

from gradwire.cli.lazy import LazyGroup

KINDS = ("federated", "inversion", "membership", "network", "secure", "training", "wire")


@click.group(cls=LazyGroup, package="gradwire.cli", modules={name: f"bench_{name}" for name in KINDS})
def bench() -> None:
    """Measure speed and sizes on this machine."""
