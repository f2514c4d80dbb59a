"""Several rounds of one victim's batch at once: what error feedback keeps back, it sends later.

With error feedback (Karimireddy et al. 2019; Stich et al. 2018, algorithm 1) a client sends of M_t = G_t + e_t and
carries e_{t+1} = M_t − sent_t. Beginning from e_0 = 0, and with G_s the gradient of one batch at round s's model,

    M_t = Σ_{s ≤ t} G_s − Σ_{s < t} sent_s,

of which the second sum is known to whoever watched. So with the scheme's linear measurement A_t of round t,

    A_t(Σ_{s ≤ t} G_s(x)) = y_t + A_t(Σ_{s < t} sent_s)      for every t,

and one batch x must meet them all: each round adds equations and no unknown. No paper's attack; the objective is that
of Geiping et al. 2020, eq. 4, averaged over rounds. What was sent is taken to be what the scheme decodes of the
victim's upload: exact for Top-K, and for PowerSGD where the victim is alone in its rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.objective import cosine, total_variation
from gradwire.attacks.inversion.problem import Guess, Problem, pose
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement, sight
from gradwire.schemes.gradients import Full
from gradwire.wire import View


def invert_rounds(views: Sequence[Sequence[View]], *, seed: int = 0, device: str = "cpu", **options: object) -> Guess:
    """Reconstruct what victims held from several rounds' views of each.

    Args:
        views: for each victim its views of rounds 0, 1, …, as `training.rounds.capture_rounds` gives them; all victims
            have as many and share a model in each round.
        options: of `IGA`: iterations, restarts, tv, …

    Returns:
        images (V, B, C, H, W) in [0, 1].

    Raises:
        GradwireError: no views, victims with different numbers of rounds, rounds that do not follow each other from
            the first, or victims that do not share a model.
    """
    if not views or not views[0] or any(len(each) != len(views[0]) for each in views):
        raise GradwireError(f"victims have {[len(v) for v in views]} rounds; each needs as many, at least one")
    for each in views:
        if [view.round for view in each] != list(range(len(each))):
            raise GradwireError(f"rounds are {[view.round for view in each]}; they must be 0, 1, … without a gap")
        if not all(view.shares_model(first) for view, first in zip(each, views[0], strict=True)):
            raise GradwireError("victims that are attacked together must share a model, a mode and a shape each round")
    known = [joint(each, salt) for salt, each in enumerate(views)]
    attack = Rounds(**options)  # type: ignore[arg-type]
    later = [
        Match.of([victim[t] for victim in known for _ in range(attack.restarts)], device)
        for t in range(1, len(views[0]))
    ]
    return replace(attack, later=tuple(later)).run([victim[0] for victim in known], seed=seed, device=device)


def joint(views: Sequence[View], salt: int = 0) -> list[Problem]:
    """One victim's problems, round by round, whose measurements are of Σ_{s ≤ t} G_s."""
    problems: list[Problem] = []
    sent: dict[str, Tensor] = {}
    for view in views:
        problem = pose(view, "adaptive", salt)
        problems.append(replace(problem, measurement=shifted(problem.measurement, sent)))
        scheme, seen = sight(view)
        decoded = scheme.decode(seen)
        sent = {name: tensor + sent[name] if name in sent else tensor for name, tensor in decoded.items()}
    return problems


def shifted(measurement: Measurement, by: Mapping[str, Tensor]) -> Measurement:
    """The same linear maps of something that is larger by a known update: y + A(by)."""
    if not by:
        return measurement
    return {
        name: [replace(term, observed=term.observed + term.apply(Full(by[name][None]))) for term in terms]
        for name, terms in measurement.items()
    }


@dataclass(frozen=True)
class Rounds(IGA):
    """Minimise the mean over rounds of 1 − cos(A_t(Σ_{s ≤ t} G_s), y_t + A_t(Σ_{s < t} sent_s)), plus tv·TV.

    Attributes:
        later: the matches of rounds 1, 2, …; without any this is IGA.
    """

    name: ClassVar[str] = "rounds"

    later: tuple[Match, ...] = field(default=(), repr=False)

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """The labels are those of the first round's problem."""
        total: dict[str, Tensor] = {}
        values = []
        for each in (match, *self.later):
            for name, gradient in each.engine.gradients(images, match.labels).items():
                total[name] = gradient.full() + total[name] if name in total else gradient.full()
            moments = each.stack.moments({name: Full(g) for name, g in total.items()})
            values.append(cosine(*moments, each.stack.energy))
        return torch.stack(values).mean(0) + self.tv * total_variation(images)
