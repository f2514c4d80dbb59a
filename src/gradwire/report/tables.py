"""A table of text, and its three printed forms: Markdown, LaTeX and the terminal."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

Titles = Container[str]
NARROWEST = 8
"""Characters of a column of words, which are folded; figures are not."""
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{character: "\\" + character for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "÷": r"$\div$",
        "≥": r"$\geq$",
        "–": "--",
    }
)


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether it holds figures, which are aligned right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Cells of text under headings; every row has as many cells as there are columns. `note` explains them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @classmethod
    def of(
        cls, lines: Sequence[Mapping[str, str]], words: Titles = (), note: str = "", without: Titles = ()
    ) -> "Table":
        """The table of lines that map headings to cells, the same headings in each.

        Args:
            words: headings of columns that hold text; all others hold figures.
            without: headings of columns that are left out.
        """
        titles = [title for title in (lines[0] if lines else ()) if title not in without]
        columns = (Column(title, numeric=title not in words) for title in titles)
        return cls(tuple(columns), tuple(tuple(line[title] for title in titles) for line in lines), note)


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table, ending in a newline."""
    rule = ["---:" if column.numeric else ":---" for column in table.columns]
    head = [column.title for column in table.columns]
    body = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in (head, *table.rows)]
    lines = [body[0], rule, *body[1:]]
    note = f"\n{table.note}\n" if table.note else ""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + note


def to_latex(table: Table, caption: str = "") -> str:
    """A LaTeX `table` with rules of the booktabs package, ending in a newline."""

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    caption = " ".join(text for text in (caption, table.note) if text)
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            *([rf"  \caption{{{caption.translate(_LATEX)}}}"] if caption else []),
            rf"  \begin{{tabular}}{{{alignment}}}",
            r"  \toprule",
            line(column.title for column in table.columns),
            r"  \midrule",
            *map(line, table.rows),
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_rich(table: Table) -> "FittedTable":
    """A table for `rich.console.Console.print`; names with brackets in them are shown as they are."""
    return FittedTable(table)


@dataclass(frozen=True)
class FittedTable:
    """A table as wide as the terminal: where that is too narrow for its figures, a row is a few lines, a cell each."""

    table: Table

    @property
    def row_count(self) -> int:
        """How many rows it has."""
        return len(self.table.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        cells = zip(*self.table.rows, strict=True) if self.table.rows else [()] * len(self.table.columns)
        widths = (
            max(map(cell_len, (column.title, *own))) if column.numeric else NARROWEST
            for column, own in zip(self.table.columns, cells, strict=True)
        )
        if sum(width + 1 for width in widths) <= options.max_width:
            yield _side_by_side(self.table)
            return
        for row in self.table.rows:
            told = zip(self.table.columns, row, strict=True)
            yield Text("\n".join(f"{column.title}: {cell}" for column, cell in told) + "\n")
        yield Text(self.table.note)


def _side_by_side(table: Table) -> RichTable:
    note = Text(table.note) if table.note else None
    result = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        caption=note,
        caption_justify="left",
    )
    for column in table.columns:
        side: Any = (
            {"justify": "right", "no_wrap": True} if column.numeric else {"justify": "left", "min_width": NARROWEST}
        )
        result.add_column(Text(column.title), overflow="fold", **side)
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        result.add_row(*(Text(cell) if column.numeric else FoldedName(cell) for column, cell in cells))
    return result


@dataclass(frozen=True)
class FoldedName:
    """Words, names and specs, which go on in the next line behind a mark where they can: `topk:` and `ratio=0.01`."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(NARROWEST, cell_len(self.text)), cell_len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        lines = [""]
        for whole in re.findall(r".+?(?:[\s:,]+|$)", self.text):
            for piece in [whole] if cell_len(whole) <= options.max_width else re.findall(r".+?(?:[=_+]+|$)", whole):
                if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > options.max_width:
                    lines.append("")
                *full, rest = chop_cells(lines[-1] + piece.rstrip(), options.max_width) or [""]
                lines[-1:] = [*full, rest + piece[len(piece.rstrip()) :]]
        yield Text("\n".join(line.rstrip() for line in lines))
