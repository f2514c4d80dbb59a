"""A study's page: what is claimed, checked; for each command that it has cells of, a table and a figure; pictures."""

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
from gradwire.report.study.beside import labels_figure, labels_table, maximum_figure, maximum_table
from gradwire.report.study.protection import Protection, protection_figure, protection_table, protections
from gradwire.report.tables import Table
from gradwire.report.training import follow, training_figure, training_table
from gradwire.runs import CELLS, CLAIMS, CONFIG, RECONSTRUCTIONS

SECTIONS: Mapping[str, tuple[str, Callable[[Sequence[Row]], Any], Callable[[Any], Table], Callable[..., Figure]]] = {
    "train": ("What it learns, and what that costs", follow, training_table, training_figure),
    "audit": ("What leaks, and what it costs", summarise, leakage_table, leakage_figure),
    "membership": ("Who was in the training set?", findings, membership_table, accuracy_figure),
    "labels": ("Labels from the entries that clients chose", list, labels_table, labels_figure),
    "maximum": ("Membership from the largest value", list, maximum_table, maximum_figure),
}
"""Command → the title of its section, what reads its rows, and the table and the figure of what was read."""
VERDICTS = {"True": "yes", "False": "no", "None": "cannot tell"}


def study_page(run: Run) -> Page:
    """The claims, a section for each command that the study has cells of, and what its audits rebuilt."""
    return Page(run.config.get("title", "A study"), (*sections(run), *reconstructions(run)))


def sections(run: Run) -> tuple[Section, ...]:
    """The claims, a section for each command whose rows it has, and one for trainings that were audited."""
    found = []
    checked = claims_table(run.folder / CLAIMS)
    if checked.rows:
        found.append(Section("claims", "What is claimed, and what was measured", checked))
    audited = by_domain([row for row in run.rows if row["command"] == "audit"], domains(run))
    for name, (title, collect, table, figure) in SECTIONS.items():
        groups: list[tuple[str, Any]] = []
        if name == "audit":
            for domain, rows_ in audited.items():
                groups += [(group, summarise(each, domain)) for group, each in grouped(rows_).items()]
        else:
            rows_of = grouped(row for row in run.rows if row["command"] == name)
            groups += [(group, collect(each)) for group, each in rows_of.items()]
        for place, (group, measured) in enumerate(groups):
            about = (name, title) if len(groups) == 1 else (f"{name}-{place}", f"{title}: {group}" if group else title)
            found.append(Section(*about, table(measured), partial(figure, measured)))
    trained = [row for row in run.rows if row["command"] == "train"]
    both: dict[tuple[RunDomain, str], list[Protection]] = {}
    for each in (each for domain, rows_ in audited.items() for each in protections(trained, rows_, domain)):
        both.setdefault((each.domain, each.measure), []).append(each)
    for number, protected in enumerate(both.values()):
        name = "protection" if len(both) == 1 else f"protection-{number}"
        draw = partial(protection_figure, protected)
        found.append(Section(name, "What protection costs", protection_table(protected), draw))
    return tuple(found)


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


def claims_table(path: Path) -> Table:
    """What claims.csv holds: the claims, their sources, what was published and measured. Empty without the file."""
    if not path.is_file():
        return Table.of([])
    columns = ("claim", "source", "published", "measured", "holds")
    with path.open(newline="", encoding="utf-8") as file:
        claims = [
            {**claim, "claim": claim["says"], "holds": VERDICTS[claim["holds"]]} for claim in csv.DictReader(file)
        ]
    return Table.of([{column: claim[column] for column in columns} for claim in claims], words=columns)
