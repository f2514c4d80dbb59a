"""The folder of a run → its report, and the table that ends a command."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.table import Table as RichTable

from gradwire.errors import GradwireError
from gradwire.report import audit, benches, membership, study, training
from gradwire.report.figures import LIGHT, THEMES, render
from gradwire.report.html import render_page
from gradwire.report.page import Page
from gradwire.report.run import Kind, Run, read
from gradwire.report.tables import Table, to_latex, to_markdown, to_rich


class Reporter(NamedTuple):
    """What is made of one kind of run: its page, and a table that fits a terminal of 80 characters."""

    page: Callable[[Run], Page]
    brief: Callable[[Run], Table]


REPORTERS: Mapping[Kind, Reporter] = {
    "audit": Reporter(audit.page, audit.brief),
    "train": Reporter(training.page, training.brief),
    "membership": Reporter(membership.page, membership.brief),
    "study": Reporter(study.page, study.brief),
    "network": Reporter(benches.network.page, benches.network.brief),
    "speed": Reporter(benches.speeds.page, benches.speeds.brief),
    "cost": Reporter(benches.costs.page, benches.costs.brief),
}


def write(folder: Path) -> Path:
    """Write the report of a run beside its results, replacing an earlier one.

    Written are report.html (self-contained), summary.md and summary.tex; each figure, as NAME.svg and NAME.png: leakage
    for an audit, training for training, curves for membership, network, speeds and costs for benchmarks, and for a
    study one a section; and reconstructions.png for an audit that has reconstructions. The same folder gives the same
    files, byte for byte.

    Args:
        folder: holds results.csv, and as a rule config.json and reconstructions.safetensors.

    Returns:
        The path of report.html.

    Raises:
        GradwireError: results.csv is missing, empty or lacks columns; a file cannot be read or written.
    """
    run = read(folder)
    files = _files(run, REPORTERS[run.kind].page(run))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise GradwireError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return folder / "report.html"


def table(folder: Path) -> RichTable:
    """A run's summary for `rich.console.Console.print`, made to fit 80 characters.

    Raises:
        GradwireError: as `read`: results.csv is missing, empty or lacks columns.
    """
    run = read(folder)
    return to_rich(REPORTERS[run.kind].brief(run))


def _files(run: Run, page: Page) -> dict[str, bytes | str]:
    drawn = {section.name: section.draw for section in page.sections if section.draw}
    figures = {
        name: {theme: render(draw(colours), "svg") for theme, colours in THEMES.items()} for name, draw in drawn.items()
    }
    tables = [section.table for section in page.sections if section.table]
    said = [sentence.rstrip(".") + "." for sentence in (page.finding, page.lede) if sentence]
    captions = [" ".join(said), *[""] * (len(tables) - 1)]
    return {
        **{f"{name}.svg": each["light"] for name, each in figures.items()},
        **{f"{name}.png": render(draw(LIGHT), "png") for name, draw in drawn.items()},
        **page.files,
        "report.html": render_page(run, page, figures),
        "summary.md": "\n".join([*(f"{sentence}\n" for sentence in said), *map(to_markdown, tables)]),
        "summary.tex": "\n".join(map(to_latex, tables, captions)),
    }
