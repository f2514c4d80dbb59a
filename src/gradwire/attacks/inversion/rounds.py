"""Several rounds of one victim's batch at once, whose error feedback sends later what it did not send before.

With error feedback (Karimireddy et al. 2019; Stich et al. 2018, algorithm 1) a client sends of M_t = G_t + e_t and
carries e_{t+1} = M_t − sent_t. Beginning from e_0 = 0, and with G_s the gradient of one batch at round s's model,

    M_t = Σ_{s ≤ t} G_s − Σ_{s < t} sent_s,

whose second sum everybody knows who observed the rounds. So with the scheme's linear measurement A_t of round t,

    A_t(Σ_{s ≤ t} G_s(x)) = y_t + A_t(Σ_{s < t} sent_s)      for every t,

and one batch x must meet them all: each round adds equations and no unknown. No paper's attack; the objective is that
of Geiping et al. 2020, eq. 4, averaged over rounds. Where each round is of another batch: `listener`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.match import Match, cosine
from gradwire.attacks.inversion.problem import Knowledge, Problem, pose
from gradwire.errors import GradwireError
from gradwire.schemes import observation, parse
from gradwire.schemes.gradients import Full
from gradwire.wire import View


def joint(views: Sequence[View], knowledge: Knowledge = "adaptive", salt: int = 0) -> Problem:
    """One victim's problem of its first round, with those of the rounds after it.

    For an adversary who knows of error feedback, a later round's measurement is of Σ_{s ≤ t} G_s. The naive one takes
    each round's decoded update for that round's gradient, which it is without error feedback.

    Args:
        views: of rounds 0, 1, …, as `training.capture.capture_rounds` gives them; of any rounds where nothing is
            carried from one to the next; or one, of any round.
    """
    rounds = [view.round for view in views]
    carries = knowledge == "adaptive" and parse(views[0].scheme).feeds_back
    if len(views) > 1 and carries and rounds != list(range(len(views))):
        raise GradwireError(f"rounds are {rounds}; with error feedback they must be 0, 1, … without a gap")
    problems: list[Problem] = []
    sent: dict[str, Tensor] = {}
    for view in views:
        problem = pose(view, knowledge, salt)
        scheme, seen = observation(view)
        if knowledge == "adaptive" and scheme.feeds_back:
            if sent:
                known = {name: Full(tensor[None]) for name, tensor in sent.items()}
                terms = {name: [t.plus(known[name]) for t in each] for name, each in problem.measurement.items()}
                problem = replace(problem, measurement=terms, carried=1.0)
            sent = {name: tensor + sent.get(name, 0) for name, tensor in scheme.taken(seen).items()}
        problems.append(problem)
    return replace(problems[0], later=tuple(problems[1:]))


@dataclass(frozen=True)
class Rounds(IGA):
    """Minimise the mean over rounds of 1 − cos(A_t(Σ_{s ≤ t} G_s), y_t + A_t(Σ_{s < t} sent_s)), plus tv·TV.

    Of a problem without later rounds this is IGA.
    """

    name: ClassVar[str] = "rounds"

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """The labels are those of the first round's problem."""
        total: dict[str, Tensor] = {}
        values = []
        for each in (match, *match.later):
            carried = each.numbers(tuple(problem.carried for problem in each.problems))
            for name, gradient in each.engine.gradients(images, match.targets).items():
                own = gradient.full()
                total[name] = own + carried.view(-1, *[1] * (own.ndim - 1)) * total[name] if name in total else own
            gradients = {name: Full(g) for name, g in total.items()}
            values.append(cosine(*each.stack.moments(gradients), each.stack.energy) + each.stack.violation(gradients))
        return torch.stack(values).mean(0) + self.priors(match, images)

    def notes(self, match: Match) -> tuple[str, ...]:
        """The number of rounds."""
        return (*match.engine.notes, f"rounds takes {1 + len(match.later)} rounds of a victim together")
