"""The page of an audit of a recorded step whose batch nobody showed: answers to look at, and no scores."""

from collections.abc import Sequence
from functools import partial

from gradwire.report.audit.pictures import contact_sheet
from gradwire.report.formats import size, times
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

NOTE = (
    "The objective is what the attack minimised, at its answer: near 0, the answer explains what was sent. “alone” "
    "knows this one message, where others heard every round before it. Only those who hold the batch can say how near "
    "the answers are: gradwire audit --truth FILE."
)


def recorded_page(run: Run) -> Page:
    """Every answer's objective, and the pictures or texts beside the page."""
    section = Section("answers", "What was rebuilt", recorded_table(run.rows))
    sheets = {
        f"{name.replace('|', '-').replace('/', '-')}.png": partial(contact_sheet, images[0])
        for name, images in run.pictures.items()
    }
    return Page("What a recorded step gives away", (section,), files=sheets)


def recorded_table(rows: Sequence[Row]) -> Table:
    """Every row."""
    return Table.of([_line(row) for row in rows], ("scheme", "attack", "knowledge", "victim", "labels"), NOTE)


def _line(row: Row) -> dict[str, str]:
    """Heading → cell."""
    return {
        **{name: str(row[name]) for name in ("scheme", "attack", "knowledge", "victim")},
        "sent": size(number(row, "bytes_up")),
        "ratio": times(number(row, "ratio")),
        "objective": f"{number(row, 'objective'):.2g}",
        "labels": str(row["labels"]),
    }
