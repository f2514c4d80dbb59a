"""The tables and figures of a study, all by one renderer, from what its file says under [[show]].

title = "Table I"
where = {command = "audit"}            which rows (`topk` stands for all specs that begin with it)
row = ["data", "scheme"]               the columns that name a line [default: the label]
column = "knowledge"                   the column whose values stand side by side
values = ["ssim", "ratio"]             what is shown of a line: means ± sample deviation over seeds and victims
percent_of = {scheme = "none"}         adds what share of that line's first value this is
published = "I"                        adds the paper's figure, where it has one for the very setting
figure = "points" or "scatter"         the first value of each line, or the second against the first
note = "…"
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

from gradwire import papers
from gradwire.report.audit.summary import is_part
from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain
from gradwire.report.formats import NOTHING, percent, spread, times
from gradwire.report.measures import PER_CENT
from gradwire.report.page import Section
from gradwire.report.rows import Row
from gradwire.report.tables import Table
from gradwire.spec_syntax import MISSING, Parameter

SHOWN = {
    **dict.fromkeys(("title", "column", "published", "note"), Parameter(str, "")),
    **dict.fromkeys(("row", "values"), Parameter(Sequence[str], MISSING)),
    **dict.fromkeys(("where", "percent_of"), Parameter(Mapping[str, Any], MISSING)),
    "figure": Parameter(Literal["points", "scatter"], MISSING),
}
"""What each key holds; `values` must be there."""


class Measured(NamedTuple):
    """A mean with its sample deviation, None for a single value, of so many values."""

    value: float
    deviation: float | None
    number: int


Lines = Mapping[tuple[str, ...], Mapping[str, Measured]]
"""What names a line → heading → figure."""


def ended(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows that count: of a training the last, of an attack none of its parts, of a failed cell none."""
    last: dict[tuple[object, ...], int] = {}
    for row in rows:
        last[_run(row)] = max(last.get(_run(row), 0), int(row.get("round") or 0))
    for row in rows:
        final = int(row.get("round") or 0) == last[_run(row)]
        if final and not row.get("failed") and not is_part(row):
            yield row


def _run(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("command", "cell", "label", "seed"))


def selected(rows: Iterable[Row], wanted: Mapping[str, Any]) -> list[Row]:
    """The rows that have these values in these columns."""
    return [row for row in rows if all(papers.matches(row.get(key, ""), value) for key, value in wanted.items())]


def section(spec: Mapping[str, Any], name: str, rows: Sequence[Row], source: str) -> Section | None:
    """A table of a study with its figure; None where no row belongs to it."""
    rows = selected(rows, spec.get("where", {}))
    if not rows:
        return None
    keys, column = spec.get("row", ["label"]), spec.get("column", "")
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key, "")) for key in keys), []).append(row)
    lines = {line: _measured(spec["values"], column, own) for line, own in groups.items()}
    lines = {line: dict(_joined(spec["values"], lines, own)) for line, own in lines.items()}
    cells = [_cells(spec, keys, line, lines, groups[line], source) for line in lines]
    titles = list(dict.fromkeys(title for each in cells for title in each))
    table = Table.of(
        [{title: each.get(title, NOTHING) for title in titles} for each in cells], keys, _note(spec, keys, lines, rows)
    )
    draw: Callable[[Theme], Figure] | None = None
    if spec.get("figure") == "points":
        draw = partial(_points, lines, spec["values"][0])
    elif spec.get("figure") == "scatter":
        draw = partial(_scatter, lines, *spec["values"][:2])
    return Section(name, spec.get("title", ""), table, draw)


def _measured(values: Sequence[str], column: str, rows: Sequence[Row]) -> dict[str, Measured]:
    """Heading → figure: a value that rows tell apart by the column has a heading for each, any other has one."""
    found: dict[str, Measured] = {}
    for value in values:
        apart: dict[str, list[float]] = {}
        for row in rows:
            if row.get(value, "") != "":
                group = str(row.get(column, "")) if column else ""
                apart.setdefault(f"{group} {value}".strip(), []).append(_scale(value) * float(row[value]))
        for heading, figures in apart.items():
            found[heading] = Measured(fmean(figures), stdev(figures) if len(figures) > 1 else None, len(figures))
    return found


def _joined(values: Sequence[str], lines: Lines, own: Mapping[str, Measured]) -> Iterator[tuple[str, Measured]]:
    """The figures of a line; a value that no line tells apart, as the bytes sent are not, has one heading."""
    for value in values:
        known = [[each for heading, each in line.items() if heading.split()[-1] == value] for line in lines.values()]
        same = all(len(set(several)) < 2 for several in known)
        for heading, each in own.items():
            if heading.split()[-1] == value:
                yield value if same else heading, each


def _cells(
    spec: Mapping[str, Any], keys: Sequence[str], line: tuple[str, ...], lines: Lines, rows: Sequence[Row], source: str
) -> dict[str, str]:
    own = lines[line]
    cells = dict(zip(keys, line, strict=True)) | {heading: _text(heading, each) for heading, each in own.items()}
    if base := spec.get("percent_of"):
        other = lines.get(tuple(str(base.get(key, value)) for key, value in zip(keys, line, strict=True)), {})
        for heading in own:
            if heading.split()[-1] == spec["values"][0]:
                whole = other[heading].value if heading in other else 0.0
                cells[f"% of {' '.join(map(str, base.values()))}, {heading}"] = percent(
                    100 * own[heading].value / whole if whole else None
                )
    if source and "published" in spec:
        for value in spec["values"]:
            figure = papers.published(source, spec["published"], value, rows)
            if figure is not None:
                cells[f"published {value}"] = _text(value, Measured(_scale(value) * figure, None, 1))
    return cells


def _scale(value: str) -> int:
    return 100 if value in PER_CENT else 1


def _text(heading: str, measured: Measured) -> str:
    column = heading.rpartition(" ")[2]
    if column == "ratio":
        return times(measured.value)
    if column in PER_CENT:
        return spread(measured.value, measured.deviation, 1) + " %"
    return spread(measured.value, measured.deviation, 3)


def _note(spec: Mapping[str, Any], keys: Sequence[str], lines: Lines, rows: Sequence[Row]) -> str:
    counts = [each.number for own in lines.values() for each in own.values()]
    many = " to ".join(map(str, sorted({min(counts), max(counts)}))) if counts else ""
    over = f"Means ± sample standard deviation over {many} seeds or victims." if many else ""
    asked = (*keys, *filter(None, [spec.get("column")]), *spec["values"])
    missing = [f"No row has the column {name!r}." for name in asked if not any(name in row for row in rows)]
    return " ".join(filter(None, [spec.get("note", ""), over, *missing]))


def _points(lines: Lines, value: str, theme: Theme = LIGHT) -> Figure:
    """The value of each line as a point with its deviation; headings are told apart by colour."""
    figure, (ax,) = panels(theme, 1, 1, width=7.4, height=1.6 + 0.28 * len(lines))
    headings = [h for h in dict.fromkeys(h for own in lines.values() for h in own) if h.split()[-1] == value]
    for number, heading in enumerate(headings):
        known = [(place, own[heading]) for place, own in enumerate(lines.values()) if heading in own]
        ax.errorbar(
            [each.value for _, each in known],
            [place + 0.12 * number for place, _ in known],
            xerr=[each.deviation or 0.0 for _, each in known],
            linestyle="none",
            label=heading,
            **theme.mark(number),
        )
    ax.set_yticks(range(len(lines)), [plain(" ".join(line)) for line in lines], fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel=plain(value))
    legend(ax, theme, loc="best")
    return figure


def _scatter(lines: Lines, across: str, up: str, theme: Theme = LIGHT) -> Figure:
    """The second value against the first, a point a line and heading."""
    figure, (ax,) = panels(theme, 1, 1, width=7.4, height=4.4)
    for number, (line, own) in enumerate(lines.items()):
        for heading, each in own.items():
            x = own.get(across)
            if heading.split()[-1] == up and x is not None:
                named = " ".join([*line, heading.removesuffix(up)]).strip()
                ax.plot([x.value], [each.value], linestyle="none", label=plain(named), **theme.mark(number))
    ax.set(xlabel=plain(across), ylabel=plain(up), **({"xscale": "log"} if across == "ratio" else {}))
    legend(ax, theme, loc="best")
    return figure
