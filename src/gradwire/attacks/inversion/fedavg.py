"""Inverting several local steps: the client's training is simulated, and its whole update matched.

D. I. Dimitrov, M. Balunović, N. Konstantinov, M. Vechev, "Data leakage in federated averaging", TMLR 2022:
the simulation of the client, epochs in an unknown order, and the order-invariant prior that ties them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.match import Match, cosine, total_variation
from gradwire.attacks.inversion.search import Search
from gradwire.errors import GradwireError, not_negative
from gradwire.seeds import generator
from gradwire.tasks import Domain
from gradwire.wire import View
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class FedAvg(Search):
    """Minimise 1 − cos(A(old − new), sent) + tv·TV + tie·(epochs' mean images apart)², over every epoch's images.

    Attributes:
        tv: the weight of total variation, and `tie` of the order-invariant prior.
        free: whether each epoch has images of its own, because its order is unknown. They are the same images, so that
            their mean, which does not depend on the order, must agree (the paper's prior, g the identity); the answer
            is the first epoch's. Otherwise every epoch uses one set of images in one order: wrong where steps are many
            and large, but with fewer unknowns. Labels have one order in every epoch.
    """

    name: ClassVar[str] = "fedavg"

    tv: float = 1e-4
    tie: float = 1.0
    free: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self.name, self, "tv", "tie")

    def suits(self, domain: Domain) -> None:
        """Refuse total variation of what is no picture."""
        super().suits(domain)
        if self.tv:
            self.needs_pictures(domain, f"tv={self.tv:g}", "say fedavg:tv=0")

    def notes(self, match: Match) -> tuple[str, ...]:
        """The number of local steps, and the path."""
        return (f"{work_of(match.problems[0].view).steps} local steps unrolled", *match.steps.notes)

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """The later epochs' inputs, from noise: one tensor (V, epochs − 1, B, *shape), none if they are shared."""
        view = match.problems[0].view
        later = epochs(view) - 1
        if not (later and self.free):
            return ()
        draws = [generator("epochs", seed, problem.salt, row) for row, problem in enumerate(match.problems)]
        noise = torch.stack([view.task.domain.start(later, view.shape[0], random=draw) for draw in draws])
        return (noise.to(match.targets.device),)

    def value(self, match: Match, images: Tensor, *extras: Tensor) -> Tensor:
        """The distance of the updates, and the priors."""
        view = match.problems[0].view
        domain = view.task.domain
        low, high = (bound.to(images.dtype) for bound in match.bounds)
        # Clamped with the slope of the unclamped ones, so that what leaves the domain can return.
        within = (extra + (extra.clamp(low, high) - extra).detach() for extra in extras)
        later = (domain.relaxed(points) for points in within)
        held = torch.cat([images[:, None], *later], 1)
        if not self.free:
            held = images[:, None].expand(-1, epochs(view), *images.shape[1:])
        update = match.steps.gradients(held, match.targets)
        value = cosine(*match.stack.moments(update), match.stack.energy)
        means = held.mean(2)
        apart = (means - means.mean(1, keepdim=True)).square().flatten(1).mean(1)
        if self.tv:
            value = value + self.tv * total_variation(held if self.free else images)
        return value + self.tie * apart


def work_of(view: View) -> LocalWork:
    """The victim's local work; an error where it sent a plain gradient."""
    if view.work is None:
        raise GradwireError("fedavg needs a view of local steps, and this one is of a plain gradient: attack it by iga")
    return view.work


def epochs(view: View) -> int:
    """How many epochs the victim began."""
    work = work_of(view)
    return -(-work.steps * work.batch // view.shape[0])
