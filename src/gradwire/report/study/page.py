"""A study's page: what is claimed, with verdicts; its tables and figures; cells that failed; pictures.

A study that says nothing of tables has one for each command that it has cells of.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gradwire.report.audit.figure import leakage_figure
from gradwire.report.audit.leakage import leakage_table
from gradwire.report.audit.pictures import originals, reconstructions_figure, rows
from gradwire.report.audit.summary import pair, summarise
from gradwire.report.domain import PIXELS, RunDomain
from gradwire.report.figures import Figure
from gradwire.report.membership.findings import findings, membership_table
from gradwire.report.membership.page import accuracy_figure
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row
from gradwire.report.run import Run, domain_of, read
from gradwire.report.study.shown import ended, section
from gradwire.report.tables import Table
from gradwire.report.training import follow, training_figure, training_table
from gradwire.runs import CELLS, CLAIMS, CONFIG, RECONSTRUCTIONS

SECTIONS: Mapping[str, tuple[str, Callable[[Sequence[Row]], Any], Callable[[Any], Table], Callable[..., Figure]]] = {
    "train": ("What it learns, and what that costs", follow, training_table, training_figure),
    "audit": ("What leaks, and what it costs", summarise, leakage_table, leakage_figure),
    "membership": ("Who was in the training set?", findings, membership_table, accuracy_figure),
}
"""Command → the title of its section, what reads its rows, and the table and the figure of what was read."""
CLAIMED = ("id", "claim", "source", "published", "measured", "interval", "verdict")


def study_page(run: Run) -> Page:
    """The claims, a section for each command that the study has cells of, and what its audits rebuilt."""
    return Page(run.config.get("title", "A study"), (*sections(run), *reconstructions(run)))


def sections(run: Run) -> tuple[Section, ...]:
    """The claims, the tables of the study's own, or else one for each command, and the cells that failed."""
    found = []
    checked = claims_table(run.folder / CLAIMS)
    if checked.rows:
        found.append(Section("claims", "What is claimed, and what was measured", checked))
    own, rows = run.config.get("show", []), list(ended(run.rows))
    made = [section(spec, f"table-{n}", rows, run.config.get("source", "")) for n, spec in enumerate(own)]
    found += [each for each in made if each] if own else by_command(run)
    failed = [{"cell": row["label"], "error": row["failed"]} for row in run.rows if row.get("failed")]
    if failed:
        found.append(Section("failed", "Cells that failed", Table.of(failed, ("cell", "error"))))
    return tuple(found)


def by_command(run: Run) -> list[Section]:
    """A table and a figure for each command that the study has cells of."""
    found = []
    good = [row for row in run.rows if not row.get("failed")]
    audited = by_domain([row for row in good if row["command"] == "audit"], domains(run))
    for name, (title, collect, table, figure) in SECTIONS.items():
        groups: list[tuple[str, Any]] = []
        if name == "audit":
            for domain, rows_ in audited.items():
                groups += [(group, summarise(each, domain)) for group, each in grouped(rows_).items()]
        else:
            rows_of = grouped(row for row in good if row["command"] == name)
            groups += [(group, collect(each)) for group, each in rows_of.items()]
        for place, (group, measured) in enumerate(groups):
            about = (name, title) if len(groups) == 1 else (f"{name}-{place}", f"{title}: {group}" if group else title)
            found.append(Section(*about, table(measured), partial(figure, measured)))
    return found


def brief(run: Run) -> Table:
    """The verdicts, or where nothing is claimed the first table."""
    claims = claims_table(run.folder / CLAIMS, brief=True)
    return claims if claims.rows else next(section.table for section in sections(run) if section.table)


def domains(run: Run) -> list[RunDomain]:
    """The domains that the study's audits are of; images where its cells do not say."""
    told = [domain_of(path.parent) for path in sorted((run.folder / CELLS).glob(f"*/{CONFIG}"))]
    return list(dict.fromkeys([*told, PIXELS]))


def by_domain(rows: Iterable[Row], known: Sequence[RunDomain]) -> dict[RunDomain, list[Row]]:
    """Domain → the rows that hold its leading score; the last known one has those that hold none."""
    found: dict[RunDomain, list[Row]] = {}
    for row in rows:
        told = (domain for domain in known if row.get(domain.leading) not in (None, ""))
        found.setdefault(next(told, known[-1]), []).append(row)
    return found


def reconstructions(run: Run) -> Iterator[Section]:
    """A figure for each data set, model and set of originals that the study's cells hold pictures of."""
    groups: dict[tuple[str, str], dict[tuple[object, bytes], list[Run]]] = {}
    for path in sorted((run.folder / CELLS).glob(f"*/{RECONSTRUCTIONS}")):
        cell = read(path.parent)
        if cell.pictures:
            about, truth = (cell.rows[0]["data"], cell.rows[0]["model"]), cell.pictures["originals"]
            groups.setdefault(about, {}).setdefault((truth.shape, truth.numpy().tobytes()), []).append(cell)
    figures = ((about, cells) for about, by_truth in groups.items() for cells in by_truth.values())
    for number, ((data, model), cells) in enumerate(figures):
        shown = [each for cell in cells for each in rows(cell, pair(summarise(cell.rows)))]
        title, says = f"What was rebuilt: {data}, {model}", "Originals, and below what was rebuilt of each scheme's."
        yield Section(
            f"pictures-{number}", title, draw=partial(reconstructions_figure, originals(cells[0]), shown), says=says
        )


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group → its rows. A label "group: cell" puts a cell among those that it is compared with; any other has none.

    Cells are told apart by their labels, which name whatever varies: a label takes the place of a scheme.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        group, _, cell = row["label"].rpartition(": ")
        found.setdefault(group, []).append({**row, "data": "", "model": "", "scheme": cell})
    if len(found) == 1:
        return {"": [{**row, "scheme": row["label"]} for row in next(iter(found.values()))]}
    return found


def claims_table(path: Path, brief: bool = False) -> Table:
    """What claims.csv holds: claims, sources, what was published and measured, verdicts. Empty without the file.

    `brief` leaves out all but the sentence and its verdict, so that it fits a terminal.
    """
    if not path.is_file():
        return Table.of([])
    with path.open(newline="", encoding="utf-8") as file:
        claims = [{**row, "claim": row["says"], "interval": ""} for row in csv.DictReader(file)]
    for row in claims:
        row["interval"] = f"{row['low']} to {row['high']}" if row["low"] else ""
        row["verdict"] = f"{row['verdict']}: {row['why']}" if row["why"] else row["verdict"]
    shown = ("id", "claim", "verdict") if brief else CLAIMED
    return Table.of([{column: row[column] for column in shown} for row in claims], words=shown)
