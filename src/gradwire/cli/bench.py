"""gradwire bench: speed, side by side with what is installed."""

import click

from gradwire.cli.bench_federated import federated
from gradwire.cli.bench_inversion import inversion
from gradwire.cli.bench_membership import membership
from gradwire.cli.bench_network import network
from gradwire.cli.bench_secure import secure
from gradwire.cli.bench_training import training
from gradwire.cli.bench_wire import wire


@click.group()
def bench() -> None:
    """Measure speed and sizes on this machine."""


for command in (wire, inversion, training, network, membership, secure, federated):
    bench.add_command(command)
