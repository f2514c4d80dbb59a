"""A study's rows: for each command that it has cells of, a table and a figure; and what is claimed, checked."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from gradwire.report import beside
from gradwire.report.curves import leakage_figure
from gradwire.report.figures import THEMES, Theme, render
from gradwire.report.leakage import leakage_table
from gradwire.report.membership import findings, membership_table
from gradwire.report.progress import training_figure
from gradwire.report.protection import protection_figure, protection_table, protections
from gradwire.report.rows import Row
from gradwire.report.run import Run
from gradwire.report.summary import summarise
from gradwire.report.tables import Column, Table
from gradwire.report.tradeoff import accuracy_figure
from gradwire.report.training import follow, training_table
from gradwire.runs import CLAIMS


@dataclass(frozen=True)
class Part:
    """One section of a study's report.

    Attributes:
        name: also of the figure's file. `title`: its heading.
        figures: "light" and "dark": the SVG for each kind of page.
    """

    name: str
    title: str
    table: Table
    figures: Mapping[str, bytes]


def parts(run: Run) -> list[Part]:
    """The sections of a study: one for each command whose rows it has, and one for trainings that were audited."""
    found = []
    for name, (title, present) in SECTIONS.items():
        # Cells are told apart by their labels, which name whatever varies: scheme, data, model.
        told = {"data": "", "model": ""}
        rows = [{**row, **told, "scheme": row["label"]} for row in run.rows if row["command"] == name]
        if rows:
            table, draw = present(rows)
            figures = {theme: render(draw(colours), "svg") for theme, colours in THEMES.items()}
            found.append(Part(name, title, table, figures))
    trained, audited = ([row for row in run.rows if row["command"] == name] for name in ("train", "audit"))
    protected = protections(trained, audited)
    if protected:
        figures = {theme: render(protection_figure(protected, colours), "svg") for theme, colours in THEMES.items()}
        found.append(Part("protection", "What protection costs", protection_table(protected), figures))
    return found


def shown(run: Run) -> Table:
    """The table that ends the command: the claims where there are any, else the first section's."""
    claimed = claims_table(claims(run.folder))
    return claimed if claimed.rows else parts(run)[0].table


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
