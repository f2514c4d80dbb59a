"""What decides a run of `gradwire advise`."""

from dataclasses import dataclass, replace
from typing import Any

from gradwire import data
from gradwire.devices import check_device
from gradwire.errors import GradwireError, at_least
from gradwire.metrics.links import rate_of
from gradwire.registry import ATTACKS, MODELS
from gradwire.report.rows import BASELINE
from gradwire.schemes import spec_of
from gradwire.schemes.dpsgd import DPSGD
from gradwire.studies.audit_settings import USUAL_ATTACKS
from gradwire.tasks import Task

SCREENED = (
    *("powersgd:rank=1", "topk:ratio=0.1", "topk:ratio=0.01", "randomk:ratio=0.1", "dgc:ratio=0.05"),
    *("qsgd:bits=2", "qsgd:bits=4", "signsgd", "noise:std=0.01", "noise:std=0.1", "sparsify:drop=0.9", "precode"),
    *("autoencoder", "dpftrl", "dpfedavg", "sga", "ssga:compression=20", "ssga-dgc:compression=20"),
)
"""Every scheme, with a few settings."""

LEAST = 50
"""Iterations of an attack that no rung goes below."""


@dataclass(frozen=True)
class Rung:
    """One round of the screening: how long is trained, how many victims are attacked, and by what."""

    number: int
    rounds: int
    samples: int
    attack: str


@dataclass(frozen=True)
class AdviseSettings:
    """What decides a screening.

    Attributes:
        data: of `data.load`; its targets must be classes.
        model: of `models.build`. [default: convnet for images, mlp for tables, bert for text]
        loss: cross_entropy, bce or package.module:function. [default: the data's own]
        schemes: specs to screen beside none, in place of every scheme with a few settings.
        also: specs to screen beside those.
        noises: multipliers of dpsgd, the yardstick; each has its ε. It trains on Poisson batches.
        link: of every client, such as 100mbps, 1gbps or 10MB/s: a step's time decides. [default: its bytes decide]
        clients: who train together, and are in an attacked round.
        rounds: of training in the last rung; each rung before it has half of the next one's.
        batch_size: examples a step of a client.
        lrs: learning rates, tried in the first rung for every scheme alike; the lowest training loss decides.
        attack: a spec; its iterations are those of the last rung. [default: by the kind of data]
        knowledge: of the scheme, adaptive, naive or both.
        samples: victims in the last rung, each with one example.
        budget: rungs, each with half of the schemes of the one before it.
        give_up: accuracy that may be given up for something else, as a share: 0.05 is five points.
    """

    data: str = "digits"
    model: str = ""
    loss: str = ""
    schemes: tuple[str, ...] = SCREENED
    also: tuple[str, ...] = ()
    noises: tuple[float, ...] = (0.5, 1.0, 2.0)
    link: str = ""
    clients: int = 4
    rounds: int = 120
    batch_size: int = 32
    lrs: tuple[float, ...] = (0.05, 0.005)
    attack: str = ""
    knowledge: str = "adaptive"
    samples: int = 8
    budget: int = 3
    give_up: float = 0.05
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", data.spec_of(self.data))
        object.__setattr__(self, "model", self.model and MODELS.spec(self.model))
        object.__setattr__(self, "attack", self.attack and ATTACKS.spec(self.attack))
        for name in ("schemes", "also"):
            object.__setattr__(self, name, tuple(map(spec_of, getattr(self, name))))
        at_least(1, **{n: getattr(self, n) for n in ("clients", "rounds", "batch_size", "samples", "budget")})
        if not self.lrs:
            raise GradwireError("lr is not given; name at least one learning rate")
        if not 0 <= self.give_up <= 1:
            raise GradwireError(f"give_up is {self.give_up}; it must be a share, from 0 to 1")
        if self.link:
            rate_of(self.link)
        check_device(self.device)
        _ = self.yardsticks

    def of(self, task: Task) -> "AdviseSettings":
        """The settings with the usual network and attack of a task.

        Raises:
            GradwireError: a task without classes, whose schemes have no accuracy to compare.
        """
        if not task.loss.classes:
            raise GradwireError(f"data is {self.data}, whose targets are no classes; advise compares accuracies")
        attack = self.attack or USUAL_ATTACKS.get(task.domain.name, ("iga:iterations=300,tv=0",))[0]
        return replace(self, model=self.model or task.network, attack=attack)

    @property
    def yardsticks(self) -> tuple[str, ...]:
        """Specs of dpsgd."""
        return tuple(DPSGD(noise=noise).spec for noise in self.noises)

    @property
    def screened(self) -> tuple[str, ...]:
        """Specs that compete for a place in the next rung."""
        asked = dict.fromkeys((*self.schemes, *self.also))
        return tuple(spec for spec in asked if spec not in (BASELINE, *self.yardsticks))

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """From the shortest to the one that counts."""
        attack: Any = ATTACKS.parse(self.attack)
        full = getattr(attack, "iterations", 0)
        found = []
        for number in range(self.budget):
            part = 2 ** (self.budget - 1 - number)
            given = {"iterations": max(min(full, LEAST), full // part)} if full else {}
            spec = ATTACKS.spec(ATTACKS.parse(self.attack, **given)) if part > 1 and given else self.attack
            found.append(Rung(number + 1, max(1, self.rounds // part), max(1, self.samples // part), spec))
        return tuple(found)
