"""What decides a run of `gradwire membership`."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from gradwire.attacks.membership import MembershipAttack, WireAttack, attack
from gradwire.attacks.membership.wire_statistics import KNOWLEDGE
from gradwire.data import augment, partition
from gradwire.data import spec_of as spec_of_data
from gradwire.devices import check_device
from gradwire.errors import GradwireError, at_least, check_words, unknown
from gradwire.registry import MEMBERSHIP, MODELS
from gradwire.schemes import parse, spec_of
from gradwire.seeds import number
from gradwire.studies.membership import canaries
from gradwire.tasks import Task
from gradwire.training import TrainSettings
from gradwire.training.plain import Speed

THRESHOLDS = ("mean-loss", "shadow", "target")
USUAL_ATTACKS = ("prediction", "loss", "cross-entropy", "mentr", "lira", "rmia")
ANY_LOSS = ("loss", "lira", "rmia")
"""The usual attacks that need an example's loss alone."""
TRAINED_BY = (
    *("clients", "partition", "batch_size", "sampling", "lr", "momentum", "weight_decay", "optimizer", "schedule"),
    "device",
)
"""What a model's training has of the run's settings."""
ENOUGH = 2
"""Shadows with a candidate, and shadows without, that an attack on both sorts gets: two have a variance."""


def needs(attack: MembershipAttack, rehearsed: bool) -> tuple[int, int]:
    """Other models with a candidate, and without it, that judge it; one more if a threshold is found on a shadow."""
    more = int(rehearsed and attack.sorts > 0)
    with_it, without = ((0, 0), (0, attack.least), (max(ENOUGH, attack.least),) * 2)[attack.sorts]
    return (with_it + more if with_it else 0), without + more


@dataclass(frozen=True)
class MembershipSettings:
    """What decides a run of `gradwire membership`.

    Attributes:
        data: of `data.load`.
        model: of `models.build`. [default: convnet for images, mlp for tables, bert or gpt2 for text]
        loss: cross_entropy, mse, bce, next_token, reported or package.module:function. [default: the data's own]
        schemes: specs; models are trained with, and attacked under, each on its own.
        shadows: models a scheme, each trained on a random half of the candidates; each is the target once, with the
            others for shadows.
        attacks: specs, such as lira:variance=global; those on the wire watch the last `watched` rounds. [default:
            prediction, loss, cross-entropy, mentr, lira and rmia for classes; loss, lira and rmia for other targets]
        thresholds: ways to choose the score from which on an attack says "member"; a row each.
        epochs: passes of every model over its half.
        clients: who train each model together through the scheme.
        partition: how a model's half is divided among them: iid, shards:2 or dirichlet:0.5.
        batch_size: examples a client and round.
        sampling: how they are taken: shuffle, as many from shuffled data, or poisson, each by a coin of its own.
        lr: step size of training.
        optimizer: of training: sgd or adam.
        schedule: of lr: constant or cosine.
        augment: queries besides the candidate itself, of images: flip, shift or flip+shift. Training has none of them.
        population: test examples that are queried, for attacks that compare with others, and for test accuracy.
        watched: rounds that an adversary on the wire sees, the last ones.
        knowledge: what that adversary knows of the scheme: naive, adaptive or both.
        canaries: examples, mislabelled:100 or random:100, by which one model's run is audited for a lower bound on
            ε; a coin decides for each whether it is in the training set, or the example whose place it has (nothing,
            with sampling poisson).
        confidence: of intervals and bounds.
        together: models that train as one batch (0: by the device).
        precision: of plain steps: fp32 or bf16.
        channels_last: memory layout of plain steps.
        compile: use torch.compile for plain steps.
    """

    data: str = "digits"
    model: str = ""
    loss: str = ""
    schemes: tuple[str, ...] = ("none",)
    shadows: int = 16
    attacks: tuple[str, ...] | None = None
    thresholds: tuple[str, ...] = THRESHOLDS
    epochs: int = 30
    clients: int = 4
    partition: str = "iid"
    batch_size: int = 16
    sampling: str = "shuffle"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    schedule: str = "constant"
    augment: str = ""
    population: int = 1000
    watched: int = 5
    knowledge: str = "both"
    canaries: str = ""
    confidence: float = 0.95
    together: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", spec_of_data(self.data))
        object.__setattr__(self, "model", self.model and MODELS.spec(self.model))
        object.__setattr__(self, "schemes", tuple(map(spec_of, self.schemes)))
        if self.attacks is not None:
            object.__setattr__(self, "attacks", tuple(map(MEMBERSHIP.spec, self.attacks)))
        at_least(1, shadows=self.shadows, epochs=self.epochs, clients=self.clients, batch_size=self.batch_size)
        at_least(1, population=self.population, watched=self.watched)
        if not 0 < self.confidence < 1:
            raise GradwireError(f"confidence is {self.confidence}; it must be in (0, 1)")
        if not self.schemes or (self.attacks == () and not self.canaries):
            raise GradwireError("a membership run needs at least one scheme, and an attack or canaries")
        check_words(self, knowledge=(*KNOWLEDGE, "both"), sampling=("shuffle", "poisson"))
        if self.sampling == "poisson" and self.wire_attacks:
            first = next(iter(self.wire_attacks))
            raise GradwireError(f"{first} hears batches of one size on the wire; with sampling poisson leave it out")
        for name in self.thresholds:
            if name not in THRESHOLDS:
                raise unknown("threshold", name, THRESHOLDS)
        check_device(self.device)
        augment.parse(self.augment)
        canaries.parse(self.canaries)
        partition.parse(self.partition)
        for spec in self.schemes:
            parse(spec)
            self.training(spec, 0, 1)
        if self.speed.compile and self.device == "cpu":
            raise GradwireError("compile needs a device that it pays on; on the CPU it is not used")
        self._check_shadows()

    def _check_shadows(self) -> None:
        rehearsed = "shadow" in self.thresholds
        wanted = {spec: 1 + sum(needs(found, rehearsed)) for spec, found in self.query_attacks.items()}
        if rehearsed and self.attacks:
            wanted["threshold shadow"] = 2
        for what, needed in wanted.items():
            if self.shadows < needed:
                least = f"{what} needs at least {needed}, of which each is the target once"
                raise GradwireError(f"shadows is {self.shadows}; {least}")
        if self.thresholds and set(self.thresholds) == {"mean-loss"}:
            unset = [spec for spec, found in self.query_attacks.items() if found.at_loss(1.0) is None]
            if lost := [*self.wire_attacks, *unset]:
                raise GradwireError(f"no loss sets a threshold for {lost[0]}; add --threshold shadow or target")
        for spec, found in self.wire_attacks.items():
            if all(self.victims(scheme) < found.clients for scheme in self.schemes):
                seen = (
                    f"the server sees {self.victims(self.schemes[0])} of their messages; {spec} needs {found.clients}"
                )
                raise GradwireError(f"clients is {self.clients}, and under {', '.join(self.schemes)} {seen}")

    def of(self, task: Task) -> "MembershipSettings":
        """The settings with what is usual for a task where nothing was said: its network, its loss, and its attacks.

        Raises:
            GradwireError: an attack that the task's loss does not suit.
        """
        loss, attacks = task.loss, self.attacks
        if attacks is None:
            attacks = USUAL_ATTACKS if loss.probabilities and loss.classes else ANY_LOSS
        found = replace(self, model=self.model or task.network, loss=self.loss or loss.name, attacks=attacks)
        for spec, each in found.query_attacks.items():
            lacks = ["the probabilities of classes"] if each.probabilities and not loss.probabilities else []
            lacks += ["classes, for it has a threshold for each"] if each.by_class and not loss.classes else []
            if lacks:
                raise GradwireError(
                    f"attack {spec!r} needs {lacks[0]}, and the loss is {loss.name!r}; take {', '.join(ANY_LOSS)}"
                )
        return found

    @cached_property
    def query_attacks(self) -> dict[str, MembershipAttack]:
        """The attacks on a model's answers."""
        return {spec: found for spec in self.attacks or () if isinstance(found := attack(spec), MembershipAttack)}

    @cached_property
    def wire_attacks(self) -> dict[str, WireAttack]:
        """The attacks on the wire."""
        return {spec: found for spec in self.attacks or () if isinstance(found := attack(spec), WireAttack)}

    def victims(self, scheme: str) -> int:
        """Clients whose own messages the server sees; one, all of them together, where it only sees their sum."""
        return 1 if parse(scheme).sums_only else self.clients

    @property
    def knows(self) -> tuple[str, ...]:
        """The kinds of knowledge to attack the wire with."""
        return tuple(each for each in KNOWLEDGE if self.knowledge in (each, "both"))

    @property
    def speed(self) -> Speed:
        """How plain steps are computed."""
        return Speed(self.together, self.precision, self.channels_last, self.compile)

    def training(self, scheme: str, model: int, rounds: int) -> TrainSettings:
        """The settings of one model's training, which has a seed of its own."""
        own = {name: getattr(self, name) for name in TRAINED_BY}
        return TrainSettings(scheme=scheme, rounds=rounds, seed=number("shadow", self.seed, model), **own)
