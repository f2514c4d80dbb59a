"""An audit's page: the finding and what was assumed, in sentences; both adversaries' figures; what they rebuilt."""

from typing import Any

from gradwire.report.audit import examples, pictures
from gradwire.report.audit.figure import caption, leakage_figure
from gradwire.report.audit.leakage import compares, informs, leakage_table, level, scores_table
from gradwire.report.audit.summary import KNOWLEDGE, labels, pair, summarise
from gradwire.report.audit.verdict import parts_table, verdict_table
from gradwire.report.audit.words import assumptions, baseline, headline, untried
from gradwire.report.domain import RunDomain, score_words
from gradwire.report.figures import render
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number, yes
from gradwire.report.run import Run

DETAILS = 1000
"""Victims that are listed one by one; results.csv holds the others."""


def audit_page(run: Run) -> Page:
    """Both adversaries' figures side by side, what they rebuilt, leakage against bytes, and what was assumed."""
    domain, summaries = run.domain, summarise(run.rows, run.domain)
    parts = summarise(run.rows, domain, parts=True)
    pairs = pair(summaries)
    truth, shown = pictures.originals(run), pictures.rows(run, pairs)
    title = domain.words.title
    sections = [
        Section(
            "leakage",
            "What leaks, and what it costs",
            leakage_table(summaries),
            lambda theme: leakage_figure(summaries, theme),
            f"Mean {title} against bytes up, one line per family of schemes and knowledge; the table above holds the "
            "figures.",
            caption(summaries),
        )
    ]
    sections.append(Section("verdicts", "What can be said of each scheme", verdict_table(summaries, parts)))
    if not domain.pictures and len(domain.scores) > 1:
        sections.append(Section("scores", "Every score", scores_table(summaries)))
    if parts:
        sections.append(Section("parts", "Each attack", parts_table(parts)))
    content = {
        "domain": domain,
        "words": {score: score_words(score) for score in domain.scores},
        "compared": compares(summaries),
        "informed": informs(summaries),
        "level": level,
        "pairs": pairs,
        "varying": labels(p.setting for p in pairs),
        "truth": truth,
        "captions": pictures.captions(run),
        "shown": shown,
        "examples": examples.shown(run, pairs),
        "victims": [_victim(row, domain) for row in run.rows[:DETAILS]],
        "rows": len(run.rows),
        "assumptions": list(dict.fromkeys(assumptions(run.settings, p.setting, domain) for p in pairs)),
        "fewest": min(summary.victims for summary in summaries),
        "most": max(summary.victims for summary in summaries),
        "knowledges": KNOWLEDGE,
    }
    drawn = {"reconstructions.png": lambda: render(pictures.reconstructions_figure(truth, shown), "png")}
    title = "What one round of updates gives away"
    return Page(
        title,
        tuple(sections),
        headline(pairs),
        baseline(pairs),
        "audit.html.j2",
        content,
        drawn if shown else {},
        untried(run.settings, domain),
    )


def _victim(row: Row, domain: RunDomain) -> dict[str, Any]:
    scores = {score: domain.each(number(row, score), score) for score in domain.scores}
    return {**row, "scores": scores, "objective": number(row, "objective"), "success": yes(row, "success")}
