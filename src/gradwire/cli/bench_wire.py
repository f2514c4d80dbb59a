"""gradwire bench wire: what the wire costs."""

import click

from gradwire.cli.show import figures


@click.command()
def wire() -> None:
    """Bytes an index of sparse messages, and how fast messages are made and read."""
    from rich.console import Console

    from gradwire.bench.wire import SIZE, index_costs, message_speeds
    from gradwire.devices import machine

    headings = ("density", "indices", "bytes an index", "no code below", "encode M/s", "decode M/s")
    table = figures(f"Positions out of {SIZE:,} entries, {machine('cpu')}", *headings)
    for cost in index_costs():
        speeds = (f"{cost.bytes_each:.2f}", f"{cost.bound:.2f}", f"{cost.encode:.1f}", f"{cost.decode:.1f}")
        table.add_row(f"{cost.density:g}", f"{cost.count:,}", *speeds)
    console = Console()
    console.print(table)
    encode, decode = message_speeds()
    console.print(f"a message of {4 * SIZE / 1e6:.1f} MB: encode {encode:.2f} GB/s, decode {decode:.2f} GB/s")
