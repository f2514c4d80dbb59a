"""Inversion's problems, guesses, and the interface of attacks that turn the former into the latter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels.infer import Inferred, infer
from gradwire.errors import unknown
from gradwire.progress import Progress, silent
from gradwire.registry import ATTACKS
from gradwire.schemes import Measurement, dense, observation, others, pooled
from gradwire.schemes.measurement import Dense
from gradwire.wire import View

Knowledge = Literal["naive", "adaptive"]
KNOWLEDGE: tuple[Knowledge, ...] = ("naive", "adaptive")
ATTACKING = "attacking"
"""The stage of an attack's progress that counts victims times iterations."""


@dataclass(frozen=True)
class PublicExamples:
    """The adversary's own examples, none of them a victim's.

    Attributes:
        inputs: shape (N, *shape), and their `targets`.
        source: where they come from, in words.
    """

    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    source: str


@dataclass(frozen=True)
class Problem:
    """One victim's view, and what a candidate's gradient is compared with.

    Attributes:
        measurement: the terms to match.
        targets: such as labels (B,): known, or inferred from the view.
        salt: problems with equal salts start from equal noise, so that schemes are compared on equal terms.
        deviation: the standard deviation of the noise in what was sent, as far as the adversary knows it.
        carried: 1 where the measurement is of the sum of this and all earlier rounds' gradients, 0 where it is of this
            round's alone.
        clients: whose images are sought, the victim first: the mean over all of them is observed, and the view's shape,
            the labels and the answer are of all their batches.
        later: the same victim's problems of the rounds that follow, for `rounds`.
        public_examples: for attacks that use them (`annealed`, `bayes`, `learned`).
        inferred: what the view says of the targets, and whether it proves it; None where they are known or made of the
            inputs.
        begin: where a search's first restart begins in place of noise, (B, *shape).
    """

    view: View
    measurement: Measurement
    targets: Tensor
    salt: int = 0
    deviation: float = 0.0
    knowledge: Knowledge = "adaptive"
    carried: float = 0.0
    clients: tuple[str, ...] = ("client:0",)
    later: tuple["Problem", ...] = ()
    public_examples: PublicExamples | None = None
    inferred: Inferred | None = None
    begin: Tensor | None = None

    def shares_model(self, other: "Problem") -> bool:
        """Whether both can be attacked as one batch: their views share a model in every round."""
        ours, theirs = ((each.view for each in (first, *first.later)) for first in (self, other))
        alike = len(self.later) == len(other.later) and len(self.clients) == len(other.clients)
        return alike and all(a.shares_model(b) for a, b in zip(ours, theirs, strict=True))

    def is_also(self, other: "Problem") -> bool:
        """Whether knowing the scheme makes no difference: both match the same plain gradient of the same clients."""
        ours, theirs = self._gradient(), other._gradient()
        alike = self.view is other.view and not self.later and not other.later
        alike = alike and (self.clients, self.deviation, self.carried) == (
            other.clients,
            other.deviation,
            other.carried,
        )
        return alike and ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    def _gradient(self) -> dict[str, Tensor]:
        """What is matched, where that is the whole gradient and nothing else."""
        terms = [(name, term) for name, several in self.measurement.items() for term in several]
        whole = all(type(term) is Dense for _, term in terms)
        return {name: term.observed for name, term in terms} if whole else {"": torch.full((1,), torch.nan)}

    def left_aside(self) -> tuple[str, ...]:
        """Lines for the report on an attack that treats the observation as one gradient."""
        notes, work = [], self.view.work
        if work is not None:
            steps = "one local step" if work.steps == 1 else f"{work.steps} local steps"
            decay = ", weight decay and all" if work.weight_decay else ""
            notes.append(f"takes the update of {steps} for the mean gradient of them{decay}")
        if self.later:
            notes.append(f"looks at the first of {1 + len(self.later)} rounds alone")
        return tuple(notes)


def pose(view: View, knowledge: Knowledge, salt: int = 0) -> Problem:
    """The problem that a view poses to an adversary who knows the scheme ("adaptive") or not ("naive").

    The naive adversary takes the decoded update for a plain gradient of the victim's, as published evaluations do. The
    adaptive one matches what was sent, through the scheme's measurement. Where that is a mean over clients (a secure
    sum, or what a fellow client observes), it seeks the images of all of them, for a mean does not say whose image is
    whose. An update of local steps is divided by their number and size, which gives it the scale of one gradient.

    Targets that cannot be inferred stay empty, (B, 0); attacks that use them refuse (`Match.of`), and say why.

    Raises:
        GradwireError: unknown knowledge, a view without a message of the victim.
    """
    if knowledge not in KNOWLEDGE:
        raise unknown("knowledge", knowledge, KNOWLEDGE)
    scheme, seen = observation(view)
    clients = pooled(view, scheme) if knowledge == "adaptive" and view.work is None else (view.victim,)
    if len(clients) > 1:
        view = _widened(view, clients)
    scale = scale_of(view)
    decoded = {name: scale * tensor for name, tensor in scheme.decode(seen).items()}
    sent = {name: [term.times(scale) for term in terms] for name, terms in scheme.measure(seen).items()}
    known: dict[str, Any] = {"clients": clients, "knowledge": knowledge, "inferred": None}
    targets = torch.empty(view.shape[0], 0, dtype=torch.int64) if view.targets is None else view.targets
    if view.targets is None and not view.task.loss.from_inputs:
        known["inferred"] = infer(view, decoded, sent)
        targets = known["inferred"].targets
    if knowledge == "naive":
        return Problem(view, dense(decoded), targets, salt, **known)
    if scheme.network is not None and (view.work is None or view.work.steps == 1):
        view = replace(view, model=scheme.network.known(view.model, seen, view.shape[0]))
    noise = scale * scheme.deviation(seen.round, view.shape[0], view.work)
    return Problem(view, sent, targets, salt, noise, **known)


def scale_of(view: View) -> float:
    """What a victim's update is multiplied by to be one gradient."""
    return 1 / ((view.weight or 1.0) * (1.0 if view.work is None else view.work.steps * view.work.lr))


def _widened(view: View, clients: tuple[str, ...]) -> View:
    """The view as one of a single victim that holds the images of all these clients, the victim first."""
    labels, batch = None, view.shape[0]
    if view.targets is not None and view.fellow_targets is not None:
        fellows = [view.fellow_targets[others(view).index(party)] for party in clients[1:]]
        labels = torch.cat([view.targets, *(each.to(view.targets) for each in fellows)])
    return replace(view, shape=(len(clients) * batch, *view.shape[1:]), targets=labels)


@dataclass(frozen=True)
class Guess:
    """An attack's answer.

    Attributes:
        inputs: shape (V, B, *shape), within the domain.
        targets: shape (V, B, …): those that the attack worked with.
        objective: what the attack minimised, at the inputs; shape (V,). Infinite where every restart was lost.
        lost: restarts that ended in a value that was not finite.
        notes: lines for the report on how it was found.
        expected: for each victim, the mean score of answers to the adversary's own rounds under its scheme; None where
            there were none.
        solved: for each victim, whether the answer is proved: it follows from what was sent, and explains it when it is
            sent again; () where the attack does not check.
        parts: the answers of the attacks that this one is made of, by name.
        value: what was minimised, of other inputs (V, B, *shape): (V,). For the scorer, who may ask it of the truth.
    """

    inputs: Tensor
    targets: Tensor
    objective: Tensor
    iterations: int
    lost: int = 0
    notes: tuple[str, ...] = ()
    expected: tuple[float | None, ...] = ()
    solved: tuple[bool, ...] = ()
    parts: Mapping[str, "Guess"] = field(default_factory=dict, repr=False, compare=False)
    value: Callable[[Tensor], Tensor] | None = field(default=None, repr=False, compare=False)


def part_of(spec: str, part: str) -> str:
    """How the row of a part is filed, such as strongest/annealed:iterations=600."""
    name, colon, options = spec.partition(":")
    return f"{name}/{part}{colon}{options}"


class Specified:
    """What an attack is that has a spec."""

    @property
    def spec(self) -> str:
        """The spec that it is read from: the name and what differs from the defaults."""
        return ATTACKS.spec(self)


@runtime_checkable
class InversionAttack(Protocol):
    """A frozen set of hyper-parameters that turns problems into guesses."""

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems that share a model, a mode and a shape, as one batch.

        Args:
            progress: called in the stage `ATTACKING` with victims times iterations; earlier work has other stages.
            checkpoint: the file in which a long attack keeps its state; where it exists, the attack goes on from it.
        """
