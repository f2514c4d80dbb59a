"""A run as one HTML page that needs nothing else: no script, no link, every picture inside."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gradwire.metrics import SUCCESS
from gradwire.report import formats, membership_words, pictures, words
from gradwire.report.membership import Finding
from gradwire.report.rows import Row, number, yes
from gradwire.report.run import Run
from gradwire.report.study import Part, claims_table
from gradwire.report.summary import KNOWLEDGE, Summary, labels, pair
from gradwire.report.tables import Table
from gradwire.report.training import Series

DETAILS = 1000
"""Victims that are listed one by one; the rest is left to results.csv."""


def audit_page(
    run: Run, summaries: Sequence[Summary], shown: Sequence[pictures.Shown], figures: Mapping[str, bytes]
) -> str:
    """The page of an audit.

    Args:
        run: what the page is about.
        summaries: the run's summaries.
        shown: the reconstructions to show; none for a run without pictures.
        figures: "light" and "dark": the SVG of leakage against bytes for each kind of page.
    """
    pairs = pair(summaries)
    return _page(
        "audit.html.j2",
        run,
        headline=words.headline(pairs) or "What one round of updates gives away",
        lede=words.baseline(pairs),
        pairs=pairs,
        told=labels(p.setting for p in pairs),
        truth=pictures.originals(run),
        captions=pictures.captions(run),
        shown=shown,
        figures=figures,
        victims=[_victim(row) for row in run.rows[:DETAILS]],
        assumptions=list(dict.fromkeys(words.assumptions(run.settings, p.setting) for p in pairs)),
        meaning=words.FIGURES,
        limits=words.LIMITS,
        fewest=min(summary.victims for summary in summaries),
        most=max(summary.victims for summary in summaries),
        threshold=SUCCESS,
        knowledges=KNOWLEDGE,
    )


def training_page(run: Run, series: Sequence[Series], table: Table, figures: Mapping[str, bytes]) -> str:
    """The page of a training run; `figures` as in `audit_page`, with the learning curves."""
    return _page(
        "training.html.j2",
        run,
        headline=words.training_headline(series) or "What training cost, and how well it went",
        series=series,
        table=table,
        figures=figures,
    )


def membership_page(run: Run, found: Sequence[Finding], table: Table, figures: Mapping[str, bytes]) -> str:
    """The page of a membership run; `figures` as in `audit_page`, with the curves; {} where there are none."""
    return _page(
        "membership.html.j2",
        run,
        headline=membership_words.headline(found) or "Who was in the training set?",
        lede=membership_words.beside(found),
        found=found,
        table=table,
        figures=figures,
        meaning=membership_words.FIGURES,
        limits=membership_words.LIMITS,
    )


def study_page(run: Run, parts: Sequence[Part], claims: Sequence[Mapping[str, str]]) -> str:
    """The page of a study: what is claimed of it, then a table and a figure for each command it has cells of."""
    return _page(
        "study.html.j2", run, headline=run.config.get("title", "A study"), parts=parts, claims=claims_table(claims)
    )


def network_page(run: Run, table: Table, headline: str | None, figures: Mapping[str, bytes]) -> str:
    """The page of a network benchmark; `figures` as in `audit_page`, with a step's time on links of any speed."""
    return _page(
        "network.html.j2",
        run,
        headline=headline or "What a step takes on links of any speed",
        table=table,
        figures=figures,
    )


def speeds_page(run: Run, table: Table, headline: str | None, figures: Mapping[str, bytes]) -> str:
    """The page of an inversion benchmark; `figures` as in `audit_page`, with time against victims."""
    return _page(
        "speeds.html.j2",
        run,
        headline=headline or "How long an iteration of gradient inversion takes",
        table=table,
        figures=figures,
    )


def costs_page(run: Run, table: Table, figures: Mapping[str, bytes]) -> str:
    """The page of a benchmark of secure sums; `figures` as in `audit_page`, with costs against clients and entries."""
    return _page("costs.html.j2", run, headline="What secure sums cost", table=table, figures=figures)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them: `kind` is their media type, as in image/png."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def _page(template: str, run: Run, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
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
        "png": lambda image: data_uri(pictures.png(image), "image/png"),
    }
    subjects = dict.fromkeys(f"{row['data']} · {row['model']}" for row in run.rows if "data" in row)
    page = environment.get_template(template).render(
        command=run.config.get("command", run.kind),
        subjects=list(subjects),
        origin={
            key: run.config[key] for key in ("gradwire", "torch", "python", "machine", "started") if key in run.config
        },
        settings={key: _setting(value) for key, value in run.settings.items()},
        notes=run.notes,
        rows=len(run.rows),
        **content,
    )
    return page.rstrip() + "\n"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or formats.NOTHING
    if value is None:
        return formats.NOTHING
    return value if isinstance(value, str) else json.dumps(value)


def _victim(row: Row) -> dict[str, Any]:
    measures = {column: number(row, column) for column in ("ssim", "psnr", "mse", "objective")}
    return {**row, **measures, "success": yes(row, "success")}
