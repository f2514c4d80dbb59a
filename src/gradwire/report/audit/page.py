"""An audit's page and its table in the terminal."""

from typing import Any

from gradwire.metrics import SUCCESS
from gradwire.report.audit import pictures, words
from gradwire.report.audit.figure import leakage_figure
from gradwire.report.audit.summary import KNOWLEDGE, labels, pair, summarise
from gradwire.report.audit.table import leakage_table
from gradwire.report.figures import render
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number, yes
from gradwire.report.run import Run
from gradwire.report.tables import Table

DETAILS = 1000
"""Victims that are listed one by one; the rest is left to results.csv."""


def page(run: Run) -> Page:
    """Both adversaries' figures side by side, reconstructions, leakage against bytes, and what was assumed."""
    summaries = summarise(run.rows)
    pairs = pair(summaries)
    shown = pictures.rows(run, pairs)
    files = {}
    if shown:
        figure = pictures.reconstructions_figure(pictures.originals(run), shown)
        files["reconstructions.png"] = render(figure, "png")
    return Page(
        "What one round of updates gives away",
        (
            Section(
                "leakage",
                "What leaks, and what it costs",
                leakage_table(summaries),
                lambda theme: leakage_figure(summaries, theme),
                "Mean SSIM against bytes up, one line per family of schemes and knowledge; "
                "the table above holds the figures.",
            ),
        ),
        words.headline(pairs),
        words.baseline(pairs),
        "audit.html.j2",
        {
            "pairs": pairs,
            "told": labels(p.setting for p in pairs),
            "truth": pictures.originals(run),
            "captions": pictures.captions(run),
            "shown": shown,
            "victims": [_victim(row) for row in run.rows[:DETAILS]],
            "rows": len(run.rows),
            "assumptions": list(dict.fromkeys(words.assumptions(run.settings, p.setting) for p in pairs)),
            "meaning": words.FIGURES,
            "limits": words.LIMITS,
            "fewest": min(summary.victims for summary in summaries),
            "most": max(summary.victims for summary in summaries),
            "threshold": SUCCESS,
            "knowledges": KNOWLEDGE,
        },
        files,
    )


def brief(run: Run) -> Table:
    """The same figures without the success."""
    return leakage_table(summarise(run.rows), brief=True)


def _victim(row: Row) -> dict[str, Any]:
    measures = {column: number(row, column) for column in ("ssim", "psnr", "mse", "objective")}
    return {**row, **measures, "success": yes(row, "success")}
