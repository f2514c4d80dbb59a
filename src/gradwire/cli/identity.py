"""gradwire identity: the keys by which clients of secure sums know one another."""

import click


@click.group()
def identity() -> None:
    """Keys by which clients of secure sums know one another, and their fingerprints."""


@identity.command()
@click.argument("file")
@click.option("--party", default="client:0", show_default=True, help="The name that the line of the list begins with.")
def new(file: str, party: str) -> None:
    """Write a new key to FILE; show its fingerprint, and its line for the list of members."""
    from gradwire.secure.identity_files import write_key

    _show(party, write_key(file))


@identity.command()
@click.argument("file")
@click.option("--party", default="client:0", show_default=True, help="The name that the line of the list begins with.")
def show(file: str, party: str) -> None:
    """Show the fingerprint of the key in FILE, and its line for the list of members."""
    from gradwire.secure.identity_files import read_key
    from gradwire.secure.keys import verification_key

    _show(party, verification_key(read_key(file)))


@identity.command()
@click.argument("file")
def members(file: str) -> None:
    """Show the fingerprints of everybody in a list of members, for people to compare."""
    from gradwire.secure.identity_files import fingerprint, read_members

    for party, key in read_members(file).items():
        click.echo(f"{party:12} {fingerprint(key)}")


def _show(party: str, verification: bytes) -> None:
    from gradwire.secure.identity_files import fingerprint

    click.echo(f"fingerprint: {fingerprint(verification)}")
    click.echo(f"for the list of members: {party} {verification.hex()}")
