"""The folder of a run → its report, and the table that ends a command."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from gradwire.errors import GradwireError
from gradwire.report.advise import advise_page, advise_table
from gradwire.report.audit.leakage import leakage_table
from gradwire.report.audit.page import audit_page
from gradwire.report.audit.recorded import recorded_page, recorded_table
from gradwire.report.audit.summary import summarise
from gradwire.report.benches.costs import cost_table, costs_page
from gradwire.report.benches.network import network_page, network_table, paces
from gradwire.report.benches.speeds import points, speed_table, speeds_page
from gradwire.report.epsilon import epsilon_page, epsilon_table
from gradwire.report.figures import LIGHT, THEMES, render
from gradwire.report.lies import checks_table, lies_page, lies_table
from gradwire.report.membership.findings import findings, membership_table
from gradwire.report.membership.page import membership_page
from gradwire.report.page import Page, render_page
from gradwire.report.run import Kind, Run, read
from gradwire.report.study.page import brief, study_page
from gradwire.report.tables import FittedTable, Table, to_latex, to_markdown, to_rich
from gradwire.report.training import follow, training_page, training_table

REPORTERS: Mapping[Kind, tuple[Callable[[Run], Page], Callable[[Run], Table]]] = {
    "audit": (audit_page, lambda run: leakage_table(summarise(run.rows, run.domain), brief=True)),
    "recorded": (recorded_page, lambda run: recorded_table(run.rows)),
    "train": (training_page, lambda run: training_table(follow(run.rows), brief=True)),
    "membership": (membership_page, lambda run: membership_table(findings(run.rows), brief=True)),
    "advise": (advise_page, lambda run: advise_table(run, brief=True)),
    "epsilon": (epsilon_page, lambda run: epsilon_table(run.rows, brief=True)),
    "study": (study_page, brief),
    "network": (network_page, lambda run: network_table(paces(run.rows), brief=True)),
    "speed": (speeds_page, lambda run: speed_table(points(run.rows))),
    "cost": (costs_page, lambda run: cost_table(run.rows)),
    "lies": (lies_page, lambda run: lies_table(run.rows)),
}
"""What is made of each kind of run: its page, and a table that fits a terminal of 80 characters."""


def write(folder: Path) -> Path:
    """Write the report of a run beside its results, replacing an earlier one, and return the path of report.html.

    The files are report.html (self-contained), summary.md and summary.tex; NAME.svg and NAME.png for each section with
    a figure, called leakage in an audit, training in a training, curves in a membership run, and network, speeds and
    costs in benchmarks; and reconstructions.png for an audit that has reconstructions. The same folder gives the same
    files, byte for byte.

    Raises:
        GradwireError: results.csv is missing, empty or lacks columns; a file cannot be read or written.
    """
    run = read(folder)
    page, _ = REPORTERS[run.kind]
    files = _files(run, page(run))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise GradwireError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return folder / "report.html"


def table(folder: Path) -> FittedTable:
    """A run's summary for `rich.console.Console.print`, made to fit 80 characters; `GradwireError` as in `write`."""
    run = read(folder)
    _, brief = REPORTERS[run.kind]
    return to_rich(brief(run))


def printed(folder: Path) -> list[RenderableType]:
    """What a command ends with, for `rich.console.Console.print`: the finding, the table, and what was not tried."""
    run = read(folder)
    page, _ = REPORTERS[run.kind]
    said = page(run)
    before = [Text(f"{each.rstrip('.')}.", style) for each, style in ((said.finding, "bold"), (said.lede, "")) if each]
    return [*before, table(folder), *([Text(said.untried)] if said.untried else [])]


def checks(folder: Path) -> FittedTable:
    """What a conformance test has found beside the lies of an audit, likewise."""
    return to_rich(checks_table(read(folder).rows))


def _files(run: Run, page: Page) -> dict[str, bytes | str]:
    drawn = {section.name: section.draw for section in page.sections if section.draw}
    figures = {
        name: {theme: render(draw(colours), "svg") for theme, colours in THEMES.items()} for name, draw in drawn.items()
    }
    tables = [section.table for section in page.sections if section.table]
    said = [sentence.rstrip(".") + "." for sentence in (page.finding, page.lede, page.untried) if sentence]
    captions = [" ".join(said), *[""] * (len(tables) - 1)]
    return {
        **{f"{name}.svg": each["light"] for name, each in figures.items()},
        **{f"{name}.png": render(draw(LIGHT), "png") for name, draw in drawn.items()},
        **{name: drawn() for name, drawn in page.files.items()},
        "report.html": render_page(run, page, figures),
        "summary.md": "\n".join([*(f"{sentence}\n" for sentence in said), *map(to_markdown, tables)]),
        "summary.tex": "\n".join(map(to_latex, tables, captions)),
    }
