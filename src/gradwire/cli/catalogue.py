"""gradwire list: what there is to choose from."""

from dataclasses import MISSING, Field, fields

import click
from rich.console import Console
from rich.table import Table

from gradwire import data, models, spec_syntax
from gradwire.attacks.inversion import ATTACKS
from gradwire.attacks.membership import ATTACKS as MEMBERSHIP
from gradwire.attacks.membership import WIRE_ATTACKS as WIRE
from gradwire.schemes import SCHEMES
from gradwire.studies.catalog import STUDIES


@click.command(name="list")
def catalogue() -> None:
    """List schemes with their parameters, attacks, models, data sets and studies."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, scheme in SCHEMES.items():
        table.add_row("scheme", name, ", ".join(map(_parameter, fields(scheme))))
    for name, study in STUDIES.items():
        table.add_row("study", name, f"{study.title} ({', '.join(f.name for f in fields(study))})")
    for name, attack in ATTACKS.items():
        table.add_row("attack", name, (attack.__doc__ or "").splitlines()[0])
    for name, asked in {**MEMBERSHIP, **WIRE}.items():
        table.add_row("membership", name, (asked.__doc__ or "").splitlines()[0])
    for name in models.names():
        table.add_row("model", name, "")
    for name in data.names():
        table.add_row("data", name, "")
    Console().print(table)


def _parameter(field: Field) -> str:
    """A parameter with its default, as a spec spells it: `?` where it has to be given, nothing where it may be."""
    if field.default is MISSING:
        return f"{field.name}=?"
    return field.name if field.default is None else f"{field.name}={spec_syntax.text(field.default)}"
