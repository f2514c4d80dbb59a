"""What decides an audit."""

from dataclasses import dataclass, replace

from gradwire import data
from gradwire.attacks.inversion import KNOWLEDGE, InversionAttack, Knowledge
from gradwire.devices import check_device
from gradwire.errors import GradwireError, at_least, check_words
from gradwire.registry import ATTACKS, MODELS
from gradwire.schemes import parse, spec_of
from gradwire.tasks import Task
from gradwire.wire import Need, check_carrier
from gradwire.wire.view import Mode

DEFAULT_SCHEMES = ("none", "powersgd:rank=1", "powersgd:rank=4", "topk:match_rank=1", "signsgd")
NOT_NEGATIVE = (
    *("trained_rounds", "trained_epochs", "chunk", "seed", "clients", "public"),
    *("local_steps", "local_batch", "lr", "weight_decay"),
)
ADVERSARIES = ("server", "eavesdropper", "client", "active")
USUAL_ATTACKS = {"pixels": ("strongest",), "columns": ("tableak",), "tokens": ("sentences",)}
"""By the domain of the inputs; others are searched without a prior."""


@dataclass(frozen=True)
class AuditSettings:
    """What decides an audit.

    Attributes:
        data: of `data.load`.
        model: of `models.build`. [default: what is usual for the data: see `Task.network`]
        loss: cross_entropy, mse, bce, next_token, reported or package.module:function. [default: the data's own]
        schemes: specs (see `gradwire list`), or objects in their place.
        attacks: specs, such as iga:tv=1e-4,restarts=4 (see `gradwire list`). [default: by the kind of data]
        knowledge: what the adversary knows of the scheme: naive, adaptive or both.
        adversary: who attacks: server, eavesdropper, client, or active: a server that lies in secure sums.
        samples: victims; each is one client's batch in a round of its own.
        batch: examples a victim.
        clients: parties in the attacked round and in training before it (0: 1, or 2 where the adversary is a client).
        labels: whether the targets are known to the adversary, or inferred by it.
        standardised: whether the network begins with the data's mean and deviation; published attacks on LeNet are on
            one that does not.
        mode: how victims run the network: train or eval.
        public: examples of the training split, none a party's, that the adversary has of its own (0: as many as its
            attack rehearses with; from 500 on, strongest also trains a network on them).
        trained_rounds: rounds of training before the attacked one, with each scheme of its own.
        trained_epochs: passes over its data that a client makes in each of these (0: it does what a victim does).
        rounds: in a row, each of the victim's same batch, that the adversary watches (for the attack `rounds`).
        local_steps: steps of SGD before the victim sends what they changed (0: it sends a gradient).
        local_batch: examples a local step (0: all of the victim's).
        lr: step size of local steps, and of the model between several rounds.
        weight_decay: adds weight_decay·parameter to what each step, or the one gradient, follows.
        split: where the victims come from: train or test.
        chunk: victims attacked at a time (0: chosen by memory).
    """

    data: str = "photographs"
    model: str = ""
    loss: str = ""
    schemes: tuple[str, ...] = DEFAULT_SCHEMES
    attacks: tuple[str, ...] = ()
    knowledge: str = "both"
    adversary: str = "server"
    samples: int = 8
    batch: int = 1
    clients: int = 0
    labels: str = "known"
    standardised: bool = True
    mode: Mode = "train"
    public: int = 0
    trained_rounds: int = 0
    trained_epochs: int = 0
    rounds: int = 1
    local_steps: int = 0
    local_batch: int = 0
    lr: float = 0.05
    weight_decay: float = 0.0
    split: str = "test"
    chunk: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", data.spec_of(self.data))
        object.__setattr__(self, "model", self.model and MODELS.spec(self.model))
        object.__setattr__(self, "schemes", tuple(map(spec_of, self.schemes)))
        object.__setattr__(self, "attacks", tuple(map(ATTACKS.spec, self.attacks)))
        at_least(1, samples=self.samples, batch=self.batch, rounds=self.rounds)
        at_least(0, **{name: getattr(self, name) for name in NOT_NEGATIVE})
        check_words(self, knowledge=(*KNOWLEDGE, "both"), adversary=ADVERSARIES, labels=("known", "inferred"))
        check_words(self, mode=("train", "eval"), split=("train", "test"))
        if not self.schemes:
            raise GradwireError("an audit needs at least one scheme")
        if self.adversary == "client" and self.clients == 1:
            raise GradwireError("clients is 1; adversary 'client' needs at least 2 in the round")
        self._check_work()
        check_device(self.device)
        for spec in self.schemes:
            lacks = Need.SINGLE_GRADIENT if self.local_steps else Need.LOCAL_UPDATE
            check_carrier(spec, parse(spec).needs, "this audit", set(Need) - {lacks})
        _ = self.inversions

    def _check_work(self) -> None:
        """Refuse local work that cannot be, and rounds whose residuals nobody could follow."""
        if self.local_batch and not self.local_steps:
            raise GradwireError(f"local_batch is {self.local_batch} and local_steps 0; it is the batch of local steps")
        if self.local_batch and self.batch % self.local_batch:
            raise GradwireError(f"local_batch is {self.local_batch}; it must divide the victim's {self.batch} examples")
        if self.local_steps and not self.lr:
            raise GradwireError("lr is 0; local steps need a size")
        if self.trained_epochs and not (self.trained_rounds and self.local_steps):
            beside = f"{self.trained_rounds} trained_rounds and {self.local_steps} local_steps"
            needs = "it needs both: rounds of training, and of local work"
            raise GradwireError(f"trained_epochs is {self.trained_epochs} with {beside}; {needs}")
        for name in ("trained_rounds", "local_steps", "weight_decay"):
            if self.rounds > 1 and (value := getattr(self, name)):
                raise GradwireError(f"{name} is {value}; with several rounds it must be 0: they begin with the first")

    def of(self, task: Task) -> "AuditSettings":
        """The settings with what is usual for a task where nothing was said: its network and its attack."""
        attacks = self.attacks or USUAL_ATTACKS.get(task.domain.name, ("iga:iterations=300,tv=0",))
        return replace(self, model=self.model or task.network, attacks=attacks)

    @property
    def inversions(self) -> dict[str, InversionAttack]:
        """The attacks by their specs."""
        return {spec: ATTACKS.parse(spec) for spec in self.attacks}

    @property
    def parties(self) -> int:
        """Clients in the attacked round: by default the victim alone, or with the one fellow who attacks it."""
        return self.clients or (2 if self.adversary == "client" else 1)

    @property
    def knows(self) -> tuple[Knowledge, ...]:
        """The kinds of knowledge to attack with."""
        return tuple(each for each in KNOWLEDGE if self.knowledge in (each, "both"))
