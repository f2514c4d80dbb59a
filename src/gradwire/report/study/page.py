"""A study's rows: for each command that it has cells of, a table and a figure; and what is claimed, checked."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gradwire.report.audit.figure import leakage_figure
from gradwire.report.audit.summary import summarise
from gradwire.report.audit.table import leakage_table
from gradwire.report.figures import Theme
from gradwire.report.membership.figures import accuracy_figure
from gradwire.report.membership.findings import findings, membership_table
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row
from gradwire.report.run import Run
from gradwire.report.study import beside, reconstructions
from gradwire.report.study.protection import protection_figure, protection_table, protections
from gradwire.report.tables import Column, Table
from gradwire.report.training.figure import training_figure
from gradwire.report.training.series import follow, training_table
from gradwire.runs import CLAIMS


def page(run: Run) -> Page:
    """What is claimed of it, a section for each command that it has cells of, and what its audits rebuilt."""
    return Page(run.config.get("title", "A study"), (*sections(run), *reconstructions.sections(run)))


def brief(run: Run) -> Table:
    """The claims where there are any, else the first section's table."""
    return next(section.table for section in sections(run) if section.table)


def sections(run: Run) -> tuple[Section, ...]:
    """The claims, a section for each command whose rows it has, and one for trainings that were audited."""
    found = []
    checked = claims_table(claims(run.folder))
    if checked.rows:
        found.append(Section("claims", "What is said of it, and what was measured", checked))
    for name, (title, present) in SECTIONS.items():
        groups = grouped(row for row in run.rows if row["command"] == name)
        for number, (group, rows) in enumerate(groups.items()):
            about = (name, title) if len(groups) == 1 else (f"{name}-{number}", f"{title}: {group}" if group else title)
            found.append(Section(*about, *present(rows)))
    trained, audited = ([row for row in run.rows if row["command"] == name] for name in ("train", "audit"))
    protected = protections(trained, audited)
    if protected:
        table = protection_table(protected)
        found.append(
            Section("protection", "What protection costs", table, lambda theme: protection_figure(protected, theme))
        )
    return tuple(found)


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group → its rows. A label "group: cell" puts a cell among those that it is compared with; any other has none.

    Cells are told apart by their labels, which name whatever varies: they stand where a run of its own has its scheme.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        group, _, cell = row["label"].rpartition(": ")
        found.setdefault(group, []).append({**row, "data": "", "model": "", "scheme": cell})
    if len(found) == 1:
        return {"": [{**row, "scheme": row["label"]} for row in next(iter(found.values()))]}
    return found


def claims(folder: Path) -> list[dict[str, str]]:
    """The rows of claims.csv; none before a study is finished."""
    path = folder / CLAIMS
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def claims_table(found: Sequence[Mapping[str, str]]) -> Table:
    """What is said, by whom, with which figure, and what was measured."""
    columns = ("claim", "source", "published", "measured", "holds")
    rows = ((c["says"], c["source"], c["published"], c["measured"], VERDICTS[c["holds"]]) for c in found)
    return Table(tuple(Column(title, numeric=False) for title in columns), tuple(rows))


VERDICTS = {"True": "yes", "False": "no", "None": "cannot tell"}

Presented = tuple[Table, Callable[[Theme], Figure]]


def _training(rows: Sequence[Row]) -> Presented:
    series = follow(rows)
    return training_table(series), lambda theme: training_figure(series, theme)


def _leakage(rows: Sequence[Row]) -> Presented:
    summaries = summarise(rows)
    return leakage_table(summaries), lambda theme: leakage_figure(summaries, theme)


def _chosen(rows: Sequence[Row]) -> Presented:
    return beside.labels_table(rows), lambda theme: beside.labels_figure(rows, theme)


def _largest(rows: Sequence[Row]) -> Presented:
    return beside.maximum_table(rows), lambda theme: beside.maximum_figure(rows, theme)


def _membership(rows: Sequence[Row]) -> Presented:
    found = findings(rows)
    return membership_table(found), lambda theme: accuracy_figure(found, theme)


SECTIONS: Mapping[str, tuple[str, Callable[[Sequence[Row]], Presented]]] = {
    "train": ("What it learns, and what that costs", _training),
    "audit": ("What leaks, and what it costs", _leakage),
    "membership": ("Who was in the training set?", _membership),
    "labels": ("Labels from the entries that clients chose", _chosen),
    "maximum": ("Membership from the largest value", _largest),
}
