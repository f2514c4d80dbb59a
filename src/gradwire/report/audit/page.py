"""An audit's page: the finding and what was assumed, in sentences; both adversaries' figures; reconstructions."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradwire.report.audit import pictures
from gradwire.report.audit.figure import leakage_figure
from gradwire.report.audit.summary import KNOWLEDGE, Pair, Setting, Summary, labels, leakage_table, pair, summarise
from gradwire.report.figures import render
from gradwire.report.formats import part, percent, plural, size
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, Row, number, yes
from gradwire.report.run import Run

DETAILS = 1000
"""Victims that are listed one by one; results.csv holds the others."""
_ADVERSARY = {
    "server": "The adversary is the server: it follows the protocol, and reads every message that the victim sends it.",
    "eavesdropper": "The adversary listens on the wire: it reads every message that the parties and the server "
    "exchange, and changes none.",
    "client": "The adversary is a fellow client: it reads what the server sends to all, and takes its own part out.",
}
_LABELS = {
    "known": "The labels of the images are known to it.",
    "inferred": "It does not know the labels of the images, and infers them from the update.",
}
_FEEDBACK = {
    "True": "Error feedback is on: what earlier rounds left unsent is part of the message.",
    "False": "Error feedback is off.",
}
_MODE = {
    "eval": "The victim ran the model in eval mode (fixed statistics in normalisation layers).",
    "train": "The victim ran the model in train mode (normalisation by the statistics of its own batch).",
}


def audit_page(run: Run) -> Page:
    """Both adversaries' figures side by side, reconstructions, leakage against bytes, and what was assumed."""
    from gradwire.metrics import SUCCESS

    summaries = summarise(run.rows)
    pairs = pair(summaries)
    truth, shown = pictures.originals(run), pictures.rows(run, pairs)
    leakage = Section(
        "leakage",
        "What leaks, and what it costs",
        leakage_table(summaries),
        lambda theme: leakage_figure(summaries, theme),
        "Mean SSIM against bytes up, one line per family of schemes and knowledge; the table above holds the figures.",
    )
    content = {
        "pairs": pairs,
        "varying": labels(p.setting for p in pairs),
        "truth": truth,
        "captions": pictures.captions(run),
        "shown": shown,
        "victims": [_victim(row) for row in run.rows[:DETAILS]],
        "rows": len(run.rows),
        "assumptions": list(dict.fromkeys(assumptions(run.settings, p.setting) for p in pairs)),
        "fewest": min(summary.victims for summary in summaries),
        "most": max(summary.victims for summary in summaries),
        "threshold": SUCCESS,
        "knowledges": KNOWLEDGE,
    }
    files = {"reconstructions.png": render(pictures.reconstructions_figure(truth, shown), "png")} if shown else {}
    title = "What one round of updates gives away"
    return Page(title, (leakage,), headline(pairs), baseline(pairs), "audit.html.j2", content, files)


def headline(pairs: Sequence[Pair]) -> str | None:
    """The finding in one sentence: the scheme whose two attacks are furthest apart, or None if nothing compares."""
    schemes = [pair for pair in pairs if pair.scheme != BASELINE]
    both = [pair for pair in schemes if None not in (_share(pair.naive), _share(pair.adaptive))]
    if both:
        widest = max(both, key=lambda pair: (_share(pair.adaptive) or 0) - (_share(pair.naive) or 0))
        return (
            f"{_leaks(widest, widest.adaptive)} to an adversary who knows the scheme; "
            f"{percent(_share(widest.naive))} to one who does not"
        )
    single = [(pair, summary) for pair in schemes for summary in pair.present if _share(summary) is not None]
    if not single:
        return None
    pair, summary = max(single, key=lambda item: _share(item[1]) or 0)
    return f"{_leaks(pair, summary)} to the {summary.knowledge} attack"


def baseline(pairs: Sequence[Pair]) -> str | None:
    """What the uncompressed update leaks, which all percentages refer to, or None without scheme `none`."""
    summaries = [summary for pair in pairs if pair.scheme == BASELINE for summary in pair.present]
    if not summaries:
        return None
    best = max(summaries, key=lambda summary: summary.ssim)
    return (
        f"Plain SGD sends {size(best.bytes_up)} and gives away {round(best.success * best.victims)} of {best.victims} "
        f"victims (mean SSIM {best.ssim:.2f})."
    )


def assumptions(settings: Mapping[str, Any], setting: Setting) -> str:
    """The threat model in one paragraph: from the run's settings, and from its rows where those do not say."""
    clients = settings.get("clients")
    images = "one image" if setting.batch == 1 else f"{setting.batch} images"
    sentences = [
        _ADVERSARY.get(setting.adversary, f"The adversary is {setting.adversary}."),
        "It knows the model with the parameters that the round started from, the scheme with its settings, and all "
        "randomness that the parties share; it knows no private seed.",
        _LABELS.get(str(settings.get("labels")), ""),
        f"Each victim sends the update of {images}"
        + (f", and is one of {clients} clients." if clients not in (None, 0, 1) else "."),
        _MODE.get(setting.mode, ""),
        _trained(settings.get("trained_rounds"), settings.get("trained_epochs")),
        _FEEDBACK.get(str(settings.get("error_feedback")).capitalize(), ""),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _share(summary: Summary | None) -> float | None:
    return None if summary is None else summary.percent_of_none


def _leaks(pair: Pair, summary: Summary | None) -> str:
    return f"At {part(pair.present[-1].ratio)}, {pair.scheme} leaks {percent(_share(summary))} of what plain SGD leaks"


def _trained(rounds: object, epochs: object) -> str:
    if rounds is None:
        return ""
    if rounds in (0, "0"):
        return "The model is untrained, as at the start of a run."
    each = f", each of {plural(epochs, 'local epoch')}," if epochs else ""
    return f"The model had been trained for {plural(rounds, 'round')}{each} before the attack."


def _victim(row: Row) -> dict[str, Any]:
    measures = {column: number(row, column) for column in ("ssim", "psnr", "mse", "objective")}
    return {**row, **measures, "success": yes(row, "success")}
