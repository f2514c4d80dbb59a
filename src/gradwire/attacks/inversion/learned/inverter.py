"""The inverter: a network from what was sent, and the targets, to the inputs.

R. Wu, X. Chen, C. Guo, K. Q. Weinberger, "Learning to invert: simple adaptive attacks for gradient inversion in
federated learning", UAI 2023, section 4: the adversary sends examples of its own through the scheme, at the model of
the round, and learns to undo that. One thing differs: the network gives principal components in place of pixels, which
takes fewer examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradwire.attacks.inversion.learned.components import Components, encoded, outputs
from gradwire.attacks.inversion.learned.lessons import Lessons
from gradwire.attacks.inversion.learned.network import Fitting, trained
from gradwire.attacks.inversion.learned.occasion import Occasion
from gradwire.attacks.inversion.learned.sketch import Block, Sketch, numbers
from gradwire.attacks.inversion.problem import Problem, PublicExamples
from gradwire.progress import Progress
from gradwire.seeds import drawing, number


@dataclass(frozen=True)
class Plan:
    """How an inverter is made; see `Learned`."""

    fitting: Fitting
    components: int
    features: int


@dataclass(frozen=True)
class Inverter:
    """A trained network for the victims of one occasion.

    Attributes:
        source: of the examples by which it was trained, and `rounds`, how many they made.
        of: the numbers that its sketch takes.
        classes: the width of a target.
        centre: of the network's inputs, and their `spread`.
    """

    occasion: Occasion
    source: str
    rounds: int
    of: tuple[Block, ...]
    sketch: Sketch
    classes: int
    centre: Tensor = field(repr=False)
    spread: Tensor = field(repr=False)
    network: nn.Module = field(repr=False)
    components: Components

    @classmethod
    def fit(
        cls, problem: Problem, own: PublicExamples, plan: Plan, seed: int, device: str, progress: Progress
    ) -> "Inverter":
        """Rehearse rounds like the problem's with own examples, and train on them."""
        with drawing(number("learned", seed), device):
            sent = Lessons.rehearsed(problem, own, plan.features, seed, device, progress)
            components = Components.of(own.inputs, plan.components)
            classes = outputs(problem.view.task.loss, own.targets)
            entered = torch.cat([sent.features, encoded(sent.targets, classes)], 1)
            centre, spread = entered.mean(0), entered.std(0, correction=0).clamp_min(1e-3)
            entered = entered.sub_(centre).div_(spread)
            due = components.coefficients(sent.inputs).flatten(1)
            network = trained(entered.to(device), due.to(device), plan.fitting, progress)
        occasion, rounds = Occasion.of(problem), len(entered)
        return cls(occasion, own.source, rounds, sent.of, sent.sketch, classes, centre, spread, network, components)

    def answer(self, problems: Sequence[Problem]) -> Tensor:
        """The likeliest inputs of victims, (V, B, *shape), as the network has it; on the CPU.

        Raises:
            GradwireError: a victim of another occasion.
        """
        for problem in problems:
            self.occasion.check(problem)
        sent = self.sketch(torch.cat([numbers(problem.measurement, self.of) for problem in problems]))
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        entered = (torch.cat([sent, encoded(targets, self.classes)], 1) - self.centre) / self.spread
        with torch.no_grad():
            found = self.network(entered.to(next(self.network.parameters()).device)).cpu()
        batch = problems[0].view.shape[0]
        return self.components.inputs(found.unflatten(1, (batch, -1)))
