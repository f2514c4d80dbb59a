"""What a report holds, before it is HTML, Markdown or LaTeX: sentences, and sections of tables and figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from gradwire.report.figures import Theme
from gradwire.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A table, a figure, or a table with its figure.

    Attributes:
        name: of the section, and of the figure's files. `title`: its heading.
        draw: the figure in the colours of a theme.
        says: what the figure shows, for those who do not see it.
        note: what stands below all in small print; the table has its own.
    """

    name: str
    title: str
    table: Table | None = None
    draw: Callable[[Theme], Figure] | None = None
    says: str = "The figures of the table above, as curves."
    note: str = ""


@dataclass(frozen=True)
class Page:
    """One run's report.

    Attributes:
        title: its heading, where nothing is found.
        finding: the finding in one sentence, computed. `lede`: what belongs beside it.
        template: what lays the sections out; `content`: what a template of its own needs beside them.
        files: pictures that are written as they are.
    """

    title: str
    sections: tuple[Section, ...]
    finding: str | None = None
    lede: str | None = None
    template: str = "page.html.j2"
    content: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
