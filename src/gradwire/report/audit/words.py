"""An audit in sentences: what leaks most, what plain SGD gives away beside it, and what was assumed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradwire.report.audit.summary import Pair, Setting, Summary
from gradwire.report.audit.verdict import BREAKS
from gradwire.report.domain import PIXELS, RunDomain
from gradwire.report.formats import part, percent, plural, size
from gradwire.report.rows import BASELINE

_ADVERSARY = {
    "server": "The adversary is the server: it follows the protocol, and reads every message that the victim sends it.",
    "eavesdropper": "The adversary listens on the wire: it reads every message that the parties and the server "
    "exchange, and changes none.",
    "client": "The adversary is a fellow client: it reads what the server sends to all, and takes its own part out.",
}
_LABELS = {
    "known": "The {targets} of the {what} are known to it.",
    "inferred": "It does not know the {targets} of the {what}, and infers them from the update.",
}
_FEEDBACK = {
    "True": "Error feedback is on: what earlier rounds left unsent is part of the message.",
    "False": "Error feedback is off.",
}
_MODE = {
    "eval": "The victim ran the model in eval mode (layers that normalise by batch, if any, use fixed statistics).",
    "train": "The victim ran the model in train mode (layers that normalise by batch, if any, use its own batch).",
}


_UNTRIED = (
    ("knowledge", ("naive",), "an adversary who knows the scheme (--knowledge adaptive)"),
    ("trained_rounds", (0,), "a trained network (--trained-rounds 100)"),
    ("rounds", (1,), "several rounds of one victim (--rounds 4)"),
    ("local_steps", (0,), "local steps, as in federated averaging (--local-steps 4)"),
    ("batch", (1,), "batches (--batch 4)"),
)
"""Settings, the values under which an audit leaves something out, and what that is."""
_TAUGHT = "an adversary with hundreds of images of its own (--public 500)"


def headline(pairs: Sequence[Pair]) -> str | None:
    """The finding in one sentence: the scheme whose two attacks are furthest apart, or None if nothing compares.

    Of images it is in per cent of what plain SGD leaks; of all else in plain figures, beside what knowing nothing gets.
    Where no attack breaks anything, not even plain SGD, it says that nothing can be told. Of several attacks each
    adversary has the one that does best.
    """
    schemes = [pair for pair in pairs if pair.scheme != BASELINE]
    if not pairs[0].present[0].domain.pictures:
        return _in_figures(schemes)
    plain = [summary for pair in pairs if pair.scheme == BASELINE for summary in pair.present]
    if plain and max(summary.success for pair in pairs for summary in pair.present) < BREAKS:
        most = max(plain, key=lambda summary: summary.success)
        broken = f"{round(most.success * most.victims)} of {plural(most.victims, 'victim')}"
        return f"Nothing can be told: not even plain SGD was inverted ({broken}); a longer attack may"
    schemes = _strongest(schemes)
    both = [pair for pair in schemes if None not in (_share(pair.naive), _share(pair.adaptive))]
    if both:
        widest = max(both, key=lambda pair: (_share(pair.adaptive) or 0) - (_share(pair.naive) or 0))
        return (
            f"{_leaks(widest, widest.adaptive)} to an adversary who knows the scheme; "
            f"{_whole(_share(widest.naive))} to one who does not"
        )
    single = [(pair, summary) for pair in schemes for summary in pair.present if _share(summary) is not None]
    if not single:
        return None
    pair, summary = max(single, key=lambda item: _share(item[1]) or 0)
    return f"{_leaks(pair, summary)} to the {summary.knowledge} attack"


def _strongest(pairs: Sequence[Pair]) -> list[Pair]:
    """Of each scheme one pair: the attack that does best for either adversary; who knows more may take any."""
    groups: dict[tuple[str, Setting], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.scheme, pair.setting._replace(attack="")), []).append(pair)

    def best(found: Sequence[Summary | None]) -> Summary | None:
        return max((each for each in found if each), key=lambda each: _share(each) or 0, default=None)

    return [
        replace(several[0], naive=best([p.naive for p in several]), adaptive=best([s for p in several for s in p.open]))
        for several in groups.values()
    ]


def baseline(pairs: Sequence[Pair]) -> str | None:
    """What the uncompressed update leaks, which all percentages refer to, or None without scheme `none`."""
    summaries = [summary for pair in pairs if pair.scheme == BASELINE for summary in pair.present]
    if not summaries:
        return None
    domain = summaries[0].domain
    best = max(summaries, key=lambda summary: domain.gain(summary.score, 0))
    return (
        f"Plain SGD sends {size(best.bytes_up)} and gives away {round(best.success * best.victims)} of "
        f"{plural(best.victims, 'victim')} (mean {domain.words.noun} {domain.says(best.score)})."
    )


def assumptions(settings: Mapping[str, Any], setting: Setting, domain: RunDomain = PIXELS) -> str:
    """The threat model in one paragraph: from the run's settings, and from its rows where those do not say."""
    clients, targets = settings.get("clients"), "labels" if domain.pictures else "targets"
    sentences = [
        _ADVERSARY.get(setting.adversary, f"The adversary is {setting.adversary}."),
        "It knows the model with the parameters that the round started from, the scheme with its settings, and all "
        "randomness that the parties share; it knows no private seed.",
        domain.assumed,
        domain.targets or _LABELS.get(str(settings.get("labels")), "").format(what=domain.what, targets=targets),
        f"Each victim sends the update of {domain.count(setting.batch)}"
        + (f", and is one of {clients} clients." if clients not in (None, 0, 1) else "."),
        _MODE.get(setting.mode, ""),
        _trained(settings.get("trained_rounds"), settings.get("trained_epochs")),
        _FEEDBACK.get(str(settings.get("error_feedback")).capitalize(), ""),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def untried(settings: Mapping[str, Any], domain: RunDomain = PIXELS) -> str:
    """Which attacks an audit with these settings left out, each with the option that runs it; "" for unknown ones."""
    left = [what for name, values, what in _UNTRIED if settings.get(name) in values]
    if domain.pictures and settings.get("public") == 0:
        left.insert(0, _TAUGHT)
    return f"Not tried: {'; '.join([*left, 'who was in the training set (gradwire membership)'])}." if left else ""


def _in_figures(pairs: Sequence[Pair]) -> str | None:
    both = [
        (pair, pair.naive, max(pair.open, key=lambda each: each.domain.gain(each.score, 0)))
        for pair in pairs
        if pair.naive and pair.adaptive
    ]
    if both:
        pair, naive, adaptive = max(both, key=lambda each: each[1].domain.gain(each[2].score, each[1].score))
        if _score(naive) == _score(adaptive):
            alike = f"{pair.scheme} gives {_figure(adaptive)} to both adversaries"
            return f"At {part(adaptive.ratio)}, {alike}{_nothing(adaptive, '; one who has seen nothing reaches')}"
        reached = f"an adversary who knows {pair.scheme} reaches {_figure(adaptive)}, one who does not {_score(naive)}"
        return f"At {part(adaptive.ratio)}, {reached}{_nothing(adaptive, ', and one who has seen nothing')}"
    single = [(pair, summary) for pair in pairs for summary in pair.present]
    if not single:
        return None
    pair, best = max(single, key=lambda each: each[1].domain.gain(each[1].score, 0))
    reached = f"the {best.knowledge} attack on {pair.scheme} reaches {_figure(best)}"
    return f"At {part(best.ratio)}, {reached}{_nothing(best, '; one who has seen nothing reaches')}"


def _figure(summary: Summary) -> str:
    """The mean leading score with its name."""
    return f"{_score(summary)} ({summary.domain.words.noun})"


def _score(summary: Summary) -> str:
    return summary.domain.says(summary.score)


def _nothing(summary: Summary, before: str) -> str:
    """What knowing nothing gets, behind some words; "" where nobody knows."""
    return "" if summary.uninformed is None else f"{before} {summary.domain.says(summary.uninformed)}"


def _share(summary: Summary | None) -> float | None:
    return None if summary is None else summary.percent_of_none


def _leaks(pair: Pair, summary: Summary | None) -> str:
    return f"At {part(pair.present[-1].ratio)}, {pair.scheme} leaks {_whole(_share(summary))} of what plain SGD leaks"


def _whole(share: float | None) -> str:
    """Per cent that no line break takes apart."""
    return percent(share).replace(" ", "\N{NO-BREAK SPACE}")


def _trained(rounds: object, epochs: object) -> str:
    if rounds is None:
        return ""
    if rounds in (0, "0"):
        return "The model is untrained, as at the start of a run."
    each = f", each of {plural(epochs, 'local epoch')}," if epochs else ""
    return f"The model had been trained for {plural(rounds, 'round')}{each} before the attack."
