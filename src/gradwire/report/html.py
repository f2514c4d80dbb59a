"""A run as one HTML page that needs nothing else: no script, no link, every picture inside."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gradwire.report import formats
from gradwire.report.figures import png
from gradwire.report.page import Page
from gradwire.report.run import Run


def render_page(run: Run, page: Page, figures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page as HTML.

    Args:
        run: what the page is about.
        figures: section → "light" and "dark": the SVG for each kind of screen.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": formats.size,
        "times": formats.times,
        "percent": formats.percent,
        "spread": formats.spread,
        "svg": lambda data: data_uri(data, "image/svg+xml"),
        "png": lambda image: data_uri(png(image), "image/png"),
    }
    subjects = dict.fromkeys(f"{row['data']} · {row['model']}" for row in run.rows if "data" in row)
    text = environment.get_template(page.template).render(
        command=run.config.get("command", run.kind),
        subjects=list(subjects),
        origin={
            key: run.config[key] for key in ("gradwire", "torch", "python", "machine", "started") if key in run.config
        },
        settings={key: _setting(value) for key, value in run.settings.items()},
        notes=run.notes,
        headline=page.finding or page.title,
        lede=page.lede,
        sections=page.sections,
        figures=figures,
        **page.content,
    )
    return text.rstrip() + "\n"


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them: `kind` is their media type, as in image/png."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or formats.NOTHING
    if value is None:
        return formats.NOTHING
    return value if isinstance(value, str) else json.dumps(value)
