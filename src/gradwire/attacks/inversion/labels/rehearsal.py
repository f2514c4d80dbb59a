"""How far inferred labels can be trusted: exact where a proof stands, else rehearsed on rounds whose labels are known.

Everybody knows the model and the scheme, so that the adversary runs rounds of its own and counts how many labels its
estimator finds. With examples of its own it learns what to expect of the victim's; with noise, which is what the
estimator is made for, it learns what is the best to be expected.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace

import torch

from gradwire.attacks.inversion.labels.head import outputs
from gradwire.attacks.inversion.problem import Problem, PublicExamples
from gradwire.attacks.inversion.rehearsal import imitable, rehearse
from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy
from gradwire.seeds import generator

MOST, LABELS = 8, 32
"""Rounds that are rehearsed at most; of large batches, as many as hold so many labels, and two at least."""


def label_notes(problems: Sequence[Problem], rehearsed: MutableMapping[str, str]) -> tuple[str, ...]:
    """Lines for the report on labels that were inferred: one a scheme; none where they are known.

    Args:
        rehearsed: a scheme's line → what was rehearsed for it before, which is not done again.
    """
    schemes: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.inferred is not None:
            schemes.setdefault(problem.view.scheme, []).append(problem)
    return tuple(dict.fromkeys(line for each in schemes.values() for line in _lines(each, rehearsed)))


def _lines(problems: Sequence[Problem], rehearsed: MutableMapping[str, str]) -> Iterator[str]:
    """The lines on problems of one scheme."""
    scheme = problems[0].view.scheme
    inferred = [problem.inferred for problem in problems if problem.inferred is not None]
    for reason in dict.fromkeys(each.reason for each in inferred if each.reason):
        yield f"{scheme}: {reason}"
    if any(each.exact for each in inferred):
        whose = "labels" if all(each.exact for each in inferred) else "labels of some victims"
        yield f"{scheme}: {whose} follow exactly from what was sent"
    estimated = next((p for p in problems if p.inferred and not (p.inferred.exact or p.inferred.reason)), None)
    if estimated is not None:
        if scheme not in rehearsed:
            rehearsed[scheme] = _expected(estimated)
        yield f"{scheme}: labels are estimates, {rehearsed[scheme]}"


def _expected(problem: Problem) -> str:
    """What a rehearsal of a problem says of its labels, in words."""
    if problem.view.work is not None or not imitable(problem):
        return "and nothing tells how good: rounds like this one are not rehearsed"
    parties = len(problem.view.clients)
    each = parties * problem.view.shape[0] // len(problem.clients)
    wanted, own = min(MOST, max(2, LABELS // problem.view.shape[0])), problem.public_examples
    there = min(wanted, len(own.inputs) // each) if own is not None else 0
    examples = own if own is not None and there else _noise(problem, wanted * each)
    times = there or wanted
    try:
        share = expected_share(problem, examples, times)
    except GradwireError as error:
        return f"and nothing tells how good: {error}"
    how = f"{times} rehearsals on {examples.source}{'' if there else '; of real inputs it may be less'}"
    return f"right for about {100 * share:.0f} % of a batch ({how})"


def expected_share(problem: Problem, examples: PublicExamples, times: int) -> float:
    """The mean share of a batch's labels that are found in so many rounds with these examples.

    Raises:
        GradwireError: too few examples, or rounds that cannot be run.
    """
    posed, _ = rehearse(replace(problem, public_examples=None), examples, times)
    view, several = problem.view, len(problem.clients)
    sought = [view.clients.index(party) for party in problem.clients]
    held = examples.targets[: times * len(view.clients) * (view.shape[0] // several)]
    due = held.unflatten(0, (times, len(view.clients), -1))[:, sought].flatten(1, 2).long()
    found = torch.stack([each.targets for each in posed]).long()
    return float(label_accuracy(found.flatten(1), due.flatten(1)).mean())


def _noise(problem: Problem, count: int) -> PublicExamples:
    """Inputs and labels at random."""
    view = problem.view
    task, random = view.task, generator("label rehearsal")
    targets = (
        torch.randint(outputs(view.model, view.mode, task), (count,), generator=random)
        if problem.targets.ndim == 1
        else task.loss.sample(count, random=random).float()
    )
    return PublicExamples(task.domain.sample(count, random=random), targets, "noise")
