"""What decides an audit."""

from dataclasses import dataclass

from gradwire import data
from gradwire.attacks.inversion import KNOWLEDGE, InversionAttack, Knowledge
from gradwire.devices import check_device
from gradwire.errors import GradwireError, unknown
from gradwire.registry import ATTACKS, MODELS
from gradwire.schemes import parse, spec_of
from gradwire.wire import Need, check_carrier
from gradwire.wire.view import Mode

RANKS = (1, 2, 4, 8)
DEFAULT_SCHEMES = ("none", *(f"powersgd:rank={r}" for r in RANKS), *(f"topk:match_rank={r}" for r in RANKS))
WORK = ("local_steps", "local_batch", "lr", "weight_decay")
ADVERSARIES = ("server", "eavesdropper", "client")


@dataclass(frozen=True)
class AuditSettings:
    """What decides an audit.

    Attributes:
        model: of `models.build`. `schemes` and `attacks`: specs, or objects, which become their specs.
        knowledge: "naive", "adaptive" or "both".
        samples: victims; each is one client's batch in a round of its own.
        batch: images a victim.
        clients: parties in the attacked round, and in the training before it.
        labels: whether the adversary is assumed to know them ("known") or has to infer them ("inferred").
        standardised: whether the network begins with the data's mean and deviation; published attacks on LeNet are on
            one that does not.
        mode: how victims run the network, "train" or "eval".
        trained_rounds: rounds of training before the attacked one, with each scheme of its own; `trained_epochs`, the
            passes over its data that a client makes in each of them (0: it does what a victim does).
        rounds: rounds in a row, each of the victim's same batch, that the adversary watches from the first one on.
        local_steps: of SGD before the victim sends what they changed (0: it sends a gradient); `local_batch`: images
            a step (0: all of the victim's).
        lr: the step size of local steps, and of the model between several rounds.
        weight_decay: adds weight_decay·parameter to what each step, or the one gradient, follows.
        public: images of the training split, none a victim's, that the adversary has of its own (for bayes).
        split: where the victims come from.
        chunk: victims attacked at a time (0: chosen by memory).
    """

    data: str = "digits"
    model: str = "convnet"
    schemes: tuple[str, ...] = DEFAULT_SCHEMES
    attacks: tuple[str, ...] = ("iga:iterations=300",)
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
        object.__setattr__(self, "model", MODELS.spec(self.model))
        object.__setattr__(self, "schemes", tuple(map(spec_of, self.schemes)))
        object.__setattr__(self, "attacks", tuple(map(ATTACKS.spec, self.attacks)))
        for name in ("samples", "batch", "rounds"):
            if getattr(self, name) < 1:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("trained_rounds", "trained_epochs", "chunk", "seed", "clients", "public", *WORK):
            if getattr(self, name) < 0:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name, known in (
            ("knowledge", (*KNOWLEDGE, "both")),
            ("adversary", ADVERSARIES),
            ("labels", ("known", "inferred")),
            ("mode", ("train", "eval")),
            ("split", ("train", "test")),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if not self.schemes or not self.attacks:
            raise GradwireError("an audit needs at least one scheme and one attack")
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
            raise GradwireError(f"local_batch is {self.local_batch}; it must divide the victim's {self.batch} images")
        if self.local_steps and not self.lr:
            raise GradwireError("lr is 0; local steps need a size")
        if self.trained_epochs and not (self.trained_rounds and self.local_steps):
            raise GradwireError(
                f"trained_epochs is {self.trained_epochs} with {self.trained_rounds} trained_rounds and "
                f"{self.local_steps} local_steps; it needs both: rounds of training, and of local work"
            )
        beside = {"trained_rounds": self.trained_rounds, "local_steps": self.local_steps}
        for name, value in (beside | {"weight_decay": self.weight_decay}).items():
            if self.rounds > 1 and value:
                raise GradwireError(f"{name} is {value}; with several rounds it must be 0: they begin with the first")

    @property
    def inversions(self) -> dict[str, InversionAttack]:
        """The attacks by their specs."""
        return {spec: ATTACKS.parse(spec) for spec in self.attacks}

    @property
    def cells(self) -> int:
        """Problems that each attack is given: victims × schemes × kinds of knowledge."""
        return self.samples * len(self.schemes) * len(self.knows)

    @property
    def parties(self) -> int:
        """Clients in the attacked round: by default the victim alone, or with the one fellow who attacks it."""
        return self.clients or (2 if self.adversary == "client" else 1)

    @property
    def knows(self) -> tuple[Knowledge, ...]:
        """The kinds of knowledge to attack with."""
        return tuple(each for each in KNOWLEDGE if self.knowledge in (each, "both"))
