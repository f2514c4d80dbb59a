"""What a report says in sentences: the finding, computed; what was assumed; what the figures mean; their limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradwire.metrics import SUCCESS
from gradwire.report.audit.summary import Pair, Setting, Summary
from gradwire.report.formats import part, percent, size
from gradwire.report.rows import BASELINE

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

_MODE = {
    "eval": "The victim ran the model in eval mode (fixed statistics in normalisation layers).",
    "train": "The victim ran the model in train mode (normalisation by the statistics of its own batch).",
}

FIGURES = (
    f"SSIM compares the structure of a reconstruction with the private image: 1 is identical, near 0 is unrelated; "
    f"from {SUCCESS} on it counts as a success, an image that one recognises. PSNR is in dB. "
    "“Per cent of none” is the mean SSIM over that which the same attack reaches against the uncompressed update.",
    "A naive attack decodes the message and treats the result as if it were a plain gradient. An adaptive attack "
    "knows the scheme, and looks for the images whose update would have been sent as this very message. "
    "A scheme protects no better than the higher of its two figures says.",
    "Bytes are the lengths of the serialised messages, headers included, not a formula. "
    "The ratio is the size of the update as dense float32 over these bytes. "
    "± is the sample standard deviation over victims.",
)

LIMITS = (
    "An attack that fails proves nothing: a stronger one, more iterations or more restarts may succeed. "
    "The figures are lower bounds on what leaks, for this model, these data and these settings only."
)


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
    successes = round(best.success * best.victims)
    return (
        f"Plain SGD sends {size(best.bytes_up)} and gives away {successes} of {best.victims} "
        f"victims (mean SSIM {best.ssim:.2f})."
    )


def assumptions(settings: Mapping[str, Any], setting: Setting) -> str:
    """The threat model in one paragraph: from the run's settings, and from its rows where those do not say."""
    clients = settings.get("clients")
    batch = setting.batch
    sentences = [
        _ADVERSARY.get(setting.adversary, f"The adversary is {setting.adversary}."),
        "It knows the model with the parameters that the round started from, the scheme with its settings, and all "
        "randomness that the parties share; it knows no private seed.",
        _LABELS.get(str(settings.get("labels")), ""),
        f"Each victim sends the update of {'one image' if batch == 1 else f'{batch} images'}"
        + (f", and is one of {clients} clients." if clients not in (None, 0, 1) else "."),
        _MODE.get(setting.mode, ""),
        _trained(settings.get("trained_rounds"), settings.get("trained_epochs")),
        _feedback(settings.get("error_feedback")),
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
    each = f", each of {epochs} local epoch{'' if epochs == 1 else 's'}," if epochs else ""
    return f"The model had been trained for {rounds} round{'' if rounds in (1, '1') else 's'}{each} before the attack."


def _feedback(feedback: object) -> str:
    if feedback is None:
        return ""
    return (
        "Error feedback is on: what earlier rounds left unsent is part of the message."
        if feedback in (True, "true", "True")
        else "Error feedback is off."
    )
