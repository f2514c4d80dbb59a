"""Judge scores, or a model's answers, that somebody has: nothing is trained."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gradwire import report
from gradwire.attacks.membership import Answers, MembershipAttack, attack
from gradwire.errors import GradwireError
from gradwire.metrics import Scored
from gradwire.report.formats import plural
from gradwire.report.rows import AS_GIVEN
from gradwire.runs import Row, RunFolder
from gradwire.studies.membership.evidence import Entry
from gradwire.studies.membership.given import Given, read_scores
from gradwire.studies.membership.publish import publish
from gradwire.studies.membership.rows import COLUMNS
from gradwire.studies.membership.settings import ENOUGH, THRESHOLDS
from gradwire.studies.membership.verdicts import judged, on_answers

ATTACKS = {
    "logit": ("loss", "cross-entropy"),
    "confidence": ("loss", "cross-entropy"),
    "loss": ("loss", "cross-entropy"),
    "probabilities": ("prediction", "loss", "cross-entropy", "mentr", "label-only"),
    "class": ("label-only",),
}
"""What can be asked of each kind of answers without shadows."""
COMPARING = ("lira:variance=global", "lira-offline")
"""What can be asked where there are several models, each the target in turn."""


def judge(
    scores: object,
    members: object,
    labels: object = None,
    score_is: str = "score",
    out: str | Path | None = None,
    models: Sequence[object] | None = None,
    examples: Sequence[object] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Path:
    """Write a run's folder and its report from scores and a membership mask, and return it: nothing is trained.

    Args:
        scores: of N examples, or of M models on N examples, (M, N); (M, N, classes) of probabilities. NaN where a model
            was not asked of an example.
        members: of the same shape, without the classes: which examples each model was trained on.
        labels: the examples' classes, whole numbers (N,), where thresholds by class are wanted.
        score_is: score (of any attack: higher is likelier a member), logit (log p/(1 − p) of the label), confidence
            (its probability), loss, probabilities (of all classes) or class (that the model answers with).
        out: the folder to write. [default: runs/membership-<time>]

    Raises:
        GradwireError: what `Given.of` refuses.
    """
    given = Given.of(scores, members, labels, score_is, models, examples)
    folder = judge_given(given, "scores", out, confidence, seed)
    report.write(folder)
    return folder


def judge_file(path: str | Path, score_is: str, out: str | Path | None, confidence: float, seed: int) -> Path:
    """As `judge`, of a file that `read_scores` takes, without the report."""
    return judge_given(read_scores(Path(path), score_is), Path(path).name, out, confidence, seed)


def judge_given(given: Given, name: str, out: str | Path | None, confidence: float, seed: int) -> Path:
    """As `judge`, of what was given, without the report."""
    shared: Row = dict.fromkeys(COLUMNS, "") | {
        **{"data": name, "model": "", "scheme": AS_GIVEN, "seed": seed, "device": "cpu"},
        "targets": len(given.models),
    }
    if given.kind == "score":
        scored = Scored.of(given.scores, given.members, given.asked)
        entries, said = [Entry({**shared, "attack": "score", "threshold": "none"}, scored)], list[str]()
    else:
        labels = torch.zeros(len(given.examples), dtype=torch.int64) if given.labels is None else given.labels
        answers = Answers(given.signals(), given.members, labels)
        entries, said = entries_of(answers, given.asked, ATTACKS[given.kind], shared, given.labels is not None)
    options = {"scores": name, "score_is": given.kind, "confidence": confidence, "seed": seed}
    run = RunFolder.create(out, "membership", COLUMNS)
    models, examples = plural(len(given.models), "model"), plural(len(given.examples), "example")
    given_as = f"Scores of {models} on {examples} were judged as they were given."
    publish(run, entries, (), options, [given_as, *said], confidence, seed, (given.models, given.examples))
    return run.path


def entries_of(
    answers: Answers, there: Tensor, specs: Sequence[str], shared: Row, by_class: bool = True
) -> tuple[list[Entry], list[str]]:
    """An entry for every attack with every threshold that these answers allow, and what they do not.

    Args:
        there: the pairs that have answers, bool (M, N).
        by_class: whether the examples have classes.
    """
    several = len(answers.members) > 1 and bool(there.all())
    kinds = THRESHOLDS if several else tuple("none" if kind == "shadow" else kind for kind in THRESHOLDS)
    chosen: list[MembershipAttack] = [attack(spec) for spec in specs]  # type: ignore[misc]
    said = []
    if len(there) > 1 and not several:
        pairs = f"{int((~there).sum())} of {there.numel()} pairs of a model and an example have no score"
        left_out = f"thresholds of a shadow, {' and '.join(COMPARING)} were left out"
        said.append(f"{pairs}, so models are not compared: {left_out}.")
    if several and specs[0] != "label-only":
        comparing: list[MembershipAttack] = [attack(spec) for spec in COMPARING]  # type: ignore[misc]
        if len(answers.members) > 2 * (ENOUGH + 1) and judged(answers, comparing, True).any():
            chosen += comparing
        else:
            need = f"{2 * ENOUGH + 3} models, and examples with {ENOUGH + 1} other models in and {ENOUGH + 1} out"
            said.append(f"{' and '.join(COMPARING)} were left out: they need at least {need}.")
    asked = judged(answers, chosen, "shadow" in kinds) & there
    entries = []
    for each in chosen:
        if each.by_class and not by_class:
            continue
        try:
            found = on_answers(answers, each, kinds, asked, there)
        except GradwireError as error:
            said.append(f"{each.spec} was left out: {error}.")
            continue
        entries += [Entry({**shared, "attack": each.spec, "threshold": k}, scored) for k, scored in found.items()]
    if lost := int((there & ~asked).sum()):
        said.append(f"{lost} of {int(there.sum())} pairs could not be judged by every attack, and were left out.")
    return entries, said
