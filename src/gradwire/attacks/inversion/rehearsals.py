"""Many rehearsals at once: what would be sent of the adversary's own examples, thousands of them.

The gradients of a chunk of examples are one batch. What is sent of them follows by the scheme's rule where it has one
(`schemes.imitation`), so that rehearsing costs little more than the gradients themselves; elsewhere rounds are run one
by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem, PublicExamples
from gradwire.attacks.inversion.rehearsal import imitable, played
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement, Observation, Scheme, observation
from gradwire.schemes.imitation import Stacked, imitated, imitates
from gradwire.schemes.measurement import Dense
from gradwire.seeds import generator, number
from gradwire.wire import SERVER

CHUNK, NUMBERS = 256, 1 << 26
"""Rounds that are rehearsed at a time, and how many numbers their gradients may have together."""


@dataclass(frozen=True)
class Rehearsed:
    """A chunk of V rehearsed rounds.

    Attributes:
        measurements: that hold V victims together: one of all, or one of each.
        inputs: whose gradients they are of, (V, B, *shape), as a problem like this one seeks them.
        targets: theirs, (V, B, …), in the order in which the problem has them.
    """

    measurements: Sequence[Measurement] = field(repr=False)
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)


def rehearsals(problem: Problem, own: PublicExamples, seed: int = 0, device: str = "cpu") -> Iterator[Rehearsed]:
    """Rounds like a problem's, in which clients hold the adversary's examples: as many as it has examples.

    Every example is a victim's first once; what else is in its batch is drawn. The fellows of a round hold the batches
    of other victims of the chunk. The naive adversary, who takes what it decodes for a plain gradient, rehearses plain
    gradients.

    Raises:
        GradwireError: too few examples, or a round that cannot be rehearsed: see `check`.
    """
    view, (scheme, seen) = problem.view, observation(problem.view)
    check(problem, own)
    parties, sought = len(view.clients), [view.clients.index(party) for party in problem.clients]
    batch = view.shape[0] // len(problem.clients)
    drawn = (generator("own examples", seed, column) for column in range(batch))
    order = torch.stack([torch.randperm(len(own.inputs), generator=each) for each in drawn], 1)
    run = engine(view.model, view.mode, view.task, batch, device)
    for first in range(0, len(order), size := chunk(problem)):
        # The victim of round i holds the chunk's batch i, and its fellows those that follow: the last's are the first.
        rows = order[first : first + size]
        if len(rows) < parties:
            break
        inputs, targets = own.inputs[rows], own.targets[rows]
        found = run.gradients(inputs.to(device), targets.to(device))
        each = {name: gradient.full().detach().cpu() for name, gradient in found.items()}
        places = torch.arange(parties) - view.clients.index(view.victim)
        fellow = (torch.arange(len(rows))[:, None] + places).remainder(len(rows))
        if batched(problem):
            random = generator("rehearsals", seed, first)
            measurements = [_at_once(problem, scheme, seen, each, fellow, random)]
        else:
            turn = number("rehearsals", seed, first) >> 1
            measurements = [_played(problem, each, targets, row, turn + i) for i, row in enumerate(fellow)]
        taken = fellow[:, sought]
        yield Rehearsed(measurements, *_ordered(problem, inputs[taken].flatten(1, 2), targets[taken].flatten(1, 2)))


def check(problem: Problem, own: PublicExamples) -> None:
    """Refuse what cannot be rehearsed: local work, step hooks, unequal weights, too few examples."""
    view, scheme = problem.view, observation(problem.view)[0]
    if scheme.network is not None:
        why = "whose random numbers differ from victim to victim"
        raise GradwireError(f"scheme {view.scheme!r} trains a network of its own, {why}; no rehearsal is like them")
    if view.work is not None or not imitable(problem):
        what = f"scheme {view.scheme!r} hooks into local steps" if view.work is None else "clients did local work"
        raise GradwireError(f"{what}, which rehearsals do not imitate; they need a round of plain gradients")
    if view.weights != "equal":
        raise GradwireError(f"clients' weights are {view.weights}; rehearsals need a round in which all count alike")
    needed = view.shape[0] // len(problem.clients) * len(view.clients)
    if (count := len(own.inputs)) < needed:
        raise GradwireError(f"{own.source} has {count} {view.task.domain.what}; one rehearsal takes {needed}")


def batched(problem: Problem) -> bool:
    """Whether what is sent follows by a rule, for all at once: naively, or where the victim's uploads are read."""
    reads = problem.view.adversary in (SERVER, "eavesdropper")
    return problem.knowledge == "naive" or (reads and imitates(observation(problem.view)[0]))


def chunk(problem: Problem) -> int:
    """Rounds that are rehearsed at a time."""
    size = sum(p.numel() for p in problem.view.model.parameters() if p.requires_grad)
    return max(len(problem.view.clients), min(CHUNK, NUMBERS // max(1, size)))


def _at_once(
    problem: Problem, scheme: Scheme, seen: Observation, each: Stacked, fellow: Tensor, random: torch.Generator
) -> Measurement:
    """The measurement of all rounds of a chunk, by the scheme's rule."""
    # Round i is the one whose victim holds the chunk's i-th batch.
    if problem.knowledge == "naive":
        return {name: [Dense(g)] for name, g in each.items()}
    means = each if fellow.shape[1] == 1 else {name: g[fellow].mean(1) for name, g in each.items()}
    found = imitated(scheme, each, means, seen.public, seen.round, random)
    if found is None:
        raise GradwireError(f"scheme {scheme.spec!r} has a rule that gives nothing; it must give a measurement")
    return found


def _played(problem: Problem, each: Stacked, targets: Tensor, row: Tensor, turn: int) -> Measurement:
    """The measurement of one round that is run, whose parties hold the batches `row` (|C|,) of the chunk."""
    updates = {
        party: {name: g[place] for name, g in each.items()}
        for party, place in zip(problem.view.clients, row.tolist(), strict=True)
    }
    return played(problem, updates, targets[row], turn).measurement


def _ordered(problem: Problem, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A chunk's inputs and targets as the problem has them: ascending class numbers, where these are inferred."""
    if problem.view.targets is not None or targets.ndim > 2 or targets.is_floating_point():
        return inputs, targets
    order = targets.sort(stable=True, dim=1).indices
    return inputs.gather(1, order.view(*order.shape, *[1] * (inputs.ndim - 2)).expand_as(inputs)), targets.gather(
        1, order
    )
