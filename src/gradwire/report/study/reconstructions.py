"""What a study's audits rebuilt: originals above, a row a scheme, one figure for each set of victims."""

from collections.abc import Iterator
from functools import partial

import torch
from matplotlib.figure import Figure

from gradwire.report.audit.pictures import Shown, originals, reconstructions_figure, rows
from gradwire.report.audit.summary import pair, summarise
from gradwire.report.figures import Theme
from gradwire.report.page import Section
from gradwire.report.run import Run, read
from gradwire.runs import CELLS, RECONSTRUCTIONS


def sections(run: Run) -> Iterator[Section]:
    """A figure for each data set, model and set of originals that the study's cells hold pictures of."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for path in sorted((run.folder / CELLS).glob(f"*/{RECONSTRUCTIONS}")):
        cell = read(path.parent)
        if not cell.pictures:
            continue
        groups.setdefault((cell.rows[0]["data"], cell.rows[0]["model"]), []).append(cell)
    number = 0
    for (data, model), cells in groups.items():
        while cells:
            first = cells[0].pictures["originals"]
            alike = [cell for cell in cells if torch.equal(cell.pictures["originals"], first)]
            cells = [cell for cell in cells if not torch.equal(cell.pictures["originals"], first)]
            shown = [each for cell in alike for each in rows(cell, pair(summarise(cell.rows)))]
            title, says = (
                f"What was rebuilt: {data}, {model}",
                "Originals, and below what was rebuilt of each scheme's.",
            )
            yield Section(f"pictures-{number}", title, draw=partial(_figure, alike[0], shown), says=says)
            number += 1


def _figure(cell: Run, shown: list[Shown], theme: Theme) -> Figure:
    """Pictures are on white, whatever the theme."""
    return reconstructions_figure(originals(cell), shown)
