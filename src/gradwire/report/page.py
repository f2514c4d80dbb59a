"""What a report holds: sentences, and sections of tables and figures; and its HTML.

The page needs nothing else: no script, no link, every picture inside.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwire.report import formats
from gradwire.report.domain import OPTION
from gradwire.report.figures import Figure, Theme, png
from gradwire.report.run import Run
from gradwire.report.tables import Table

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A table, a figure, or a table with its figure.

    Attributes:
        name: of the section, and of the figure's files. title: the heading.
        draw: the figure in the colours of a theme.
        says: what the figure shows, for those who do not see it.
        note: small print below all; the table has its own.
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
        title: the heading, where there is no finding.
        finding: the finding in one sentence, computed. lede: what is said below it.
        template: lays the sections out. content: what the template needs beside them.
        files: makers of pictures that are written as they are, by the files' names.
        untried: which attacks the finding is not about, and how to run them.
    """

    title: str
    sections: tuple[Section, ...]
    finding: str | None = None
    lede: str | None = None
    template: str = "page.html.j2"
    content: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    untried: str = ""


def render_page(run: Run, page: Page, figures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page of a run as HTML. `figures`: section → "light" and "dark" → the SVG for screens of that kind."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formats, name) for name in ("size", "times", "percent", "spread")}
    environment.filters["breakable"] = _breakable
    environment.filters["svg"] = lambda data: _uri(data, "image/svg+xml")
    environment.filters["png"] = lambda image: _uri(png(image), "image/png")
    origin = ("gradwire", "torch", "python", "machine", "started")
    text = environment.get_template(page.template).render(
        command=run.config.get("command", run.kind),
        subjects=list(
            dict.fromkeys(" · ".join(filter(None, (row["data"], row["model"]))) for row in run.rows if "data" in row)
        ),
        origin={key: run.config[key] for key in origin if key in run.config},
        settings=dict(_told(key, value) for key, value in run.settings.items() if key != OPTION),
        notes=run.notes,
        headline=page.finding or page.title,
        lede=page.lede,
        untried=page.untried,
        sections=page.sections,
        figures=figures,
        **page.content,
    )
    return text.rstrip() + "\n"


def _breakable(text: object) -> "Markup":
    """A name or spec that may go on in the next line behind an underscore, comma, colon or plus, and at a bracket.

    A number such as 1e-4 stays whole.
    """
    from markupsafe import Markup, escape

    parted = re.sub(r"(_|[,:+](?=[a-zA-Z]))", r"\1<wbr>", str(escape(text))).replace("[", "<wbr>[")
    return Markup(re.sub(r"\d[\d.]*e-\d+", r'<span class="whole">\g<0></span>', parted))


def _uri(data: bytes, kind: str) -> str:
    """A URI that holds the bytes; `kind` is their media type, as in image/png."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def _told(name: str, value: Any) -> tuple[str, str]:
    """A setting's name and value, with what cannot be guessed."""
    if name == "clients" and value == 0:
        return name, "as few as the attack needs"
    return "chunk (victims at a time)" if name == "chunk" else name, _setting(value)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or formats.NOTHING
    if value is None:
        return formats.NOTHING
    return value if isinstance(value, str) else json.dumps(value)
