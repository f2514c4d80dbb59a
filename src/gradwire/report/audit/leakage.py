"""The tables of an audit's summaries: the leading score beside its cost, and all scores."""

from collections.abc import Sequence

from gradwire.report.audit.summary import Setting, Summary, labels, pair
from gradwire.report.domain import score_words
from gradwire.report.formats import NOTHING, percent, plural, size, times
from gradwire.report.tables import Table

NOTHING_KNOWN = "knowing nothing"
"""The heading of what an answer gets that has seen nothing of the victims."""
_WORDS = (*Setting._fields, "scheme", "knowledge")


def leakage_table(summaries: Sequence[Summary], brief: bool = False) -> Table:
    """Scheme, bytes up and ratio; the leading score (mean ± sample std, and per cent of `none`) naive and adaptive.

    Data, model, attack, adversary, mode and batch get a column where they differ between the summaries, and so does
    what knowing nothing gets where a summary says it. `brief` leaves out the success (share of victims that were given
    away, naive / adaptive), so that the table fits 80 characters.
    """
    domain, pairs = summaries[0].domain, pair(summaries)
    varying = labels(p.setting for p in pairs)
    # Only names as short as SSIM fit a terminal; the note below has the others.
    score = f" {domain.words.title}" if domain.pictures or not brief else ""
    lines = [
        {
            **varying[p.setting],
            "scheme": p.scheme,
            "bytes up": size(p.present[-1].bytes_up),
            "ratio": times(p.present[-1].ratio),
            **({NOTHING_KNOWN: level(p.present[-1])} if informs(summaries) else {}),
            f"naive{score}": _figure(p.naive, compares(summaries)),
            f"adaptive{score}": _figure(p.adaptive, compares(summaries)),
            "success": f"{_success(p.naive)} / {_success(p.adaptive)}",
        }
        for p in pairs
    ]
    return Table.of(lines, _WORDS, _note(summaries, brief), ("success", NOTHING_KNOWN) if brief else ())


def scores_table(summaries: Sequence[Summary]) -> Table:
    """Every score of every scheme under either knowledge, a mean over victims."""
    domain, varying = summaries[0].domain, labels(summary.setting for summary in summaries)
    lines = [
        {
            **varying[summary.setting],
            "scheme": summary.scheme,
            "knowledge": summary.knowledge,
            **{score: domain.says(summary.scores[score], score=score) for score in domain.scores},
        }
        for pair_ in pair(summaries)
        for summary in pair_.present
    ]
    titles = {score: score_words(score).title for score in domain.scores}
    return Table.of([{titles.get(name, name): cell for name, cell in line.items()} for line in lines], _WORDS)


def informs(summaries: Sequence[Summary]) -> bool:
    """Whether what knowing nothing gets is known of some."""
    return any(summary.uninformed is not None for summary in summaries)


def compares(summaries: Sequence[Summary]) -> bool:
    """Whether there is something to say in per cent of what plain SGD leaks; of images, the column stands always."""
    return summaries[0].domain.pictures or any(summary.percent_of_none is not None for summary in summaries)


def level(summary: Summary) -> str:
    """What knowing nothing gets, as text."""
    return NOTHING if summary.uninformed is None else summary.domain.says(summary.uninformed)


def _note(summaries: Sequence[Summary], brief: bool) -> str:
    domain, counts = summaries[0].domain, [summary.victims for summary in summaries]
    fewest, most = min(counts), max(counts)
    victims = plural(most, "victim") if fewest == most else f"{fewest} to {most} victims"
    title = domain.words.title
    said = f"{title[:1].upper()}{title[1:]}: mean ± sample standard deviation over {victims}"
    if compares(summaries):
        beyond = "" if domain.pictures or not informs(summaries) else " beyond what knowing nothing gets"
        said += f", and per cent of what none leaks{beyond}"
    said += "." if domain.higher else "; lower gives away more."
    if brief:
        levels = dict.fromkeys(level(s) for s in summaries if s.uninformed is not None)
        return said + (f" Knowing nothing gets {', '.join(levels)}." if levels else "")
    success = f"share of victims given away ({domain.criterion})" if domain.criterion else "share of victims given away"
    if domain.bound:
        success = f"share of victims with {domain.criterion}"
    return f"{said} Success: {success}, naive / adaptive."


def _figure(summary: Summary | None, compared: bool) -> str:
    if summary is None:
        return NOTHING
    text = summary.domain.says(summary.score, summary.score_std)
    # Padded to the width of 100 %, so that means stand under means.
    return f"{text} ({percent(summary.percent_of_none):>5})" if compared else text


def _success(summary: Summary | None) -> str:
    return NOTHING if summary is None else percent(100 * summary.success)
