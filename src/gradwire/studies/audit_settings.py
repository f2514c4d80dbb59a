"""What decides an audit."""

from dataclasses import dataclass
from typing import Literal

from gradwire.attacks.inversion import KNOWLEDGE, Attack, Knowledge, attack, taken_by
from gradwire.devices import check_device
from gradwire.errors import GradwireError, unknown
from gradwire.schemes import parse
from gradwire.wire.view import Mode

RANKS = (1, 2, 4, 8)
DEFAULT_SCHEMES = ("none", *(f"powersgd:rank={r}" for r in RANKS), *(f"topk:match_rank={r}" for r in RANKS))
ADVERSARIES = ("server", "eavesdropper", "client")


@dataclass(frozen=True)
class AuditSettings:
    """What decides an audit.

    Attributes:
        knowledge: "naive", "adaptive" or "both".
        samples: victims; each is one client's batch in a round of its own.
        batch: images a victim.
        clients: parties in the attacked round, and in the training before it.
        labels: whether the adversary is assumed to know them ("known") or has to infer them ("inferred").
        mode: how victims run the network, "train" or "eval".
        trained_rounds: rounds of training before the attacked one, with each scheme of its own.
        signed, decay, optimizer: of the search; None leaves each attack to its own. Of these, of `tv` and of `step`,
            an attack takes what it has a use for.
        precision: of the search, "fp32", "tf32" or "bf16".
        split: where the victims come from.
        chunk: victims attacked at a time (0: chosen by memory).
    """

    data: str = "digits"
    model: str = "convnet"
    schemes: tuple[str, ...] = DEFAULT_SCHEMES
    attacks: tuple[str, ...] = ("iga",)
    knowledge: str = "both"
    adversary: str = "server"
    samples: int = 8
    batch: int = 1
    clients: int = 0
    labels: str = "known"
    mode: Mode = "train"
    iterations: int = 300
    restarts: int = 1
    tv: float = 1e-4
    step: float = 0.1
    signed: bool | None = None
    decay: Literal["steps", "cosine"] | None = None
    optimizer: Literal["adam", "lbfgs"] | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    trained_rounds: int = 0
    split: str = "test"
    chunk: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("samples", "batch"):
            if getattr(self, name) < 1:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("trained_rounds", "chunk", "seed", "clients"):
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
        check_device(self.device)
        for spec in self.schemes:
            parse(spec)
        for name in self.attacks:
            self.attack(name)

    def attack(self, name: str) -> Attack:
        """The attack with this name, and those of these settings that it takes and that are given."""
        given = {option: getattr(self, option, None) for option in taken_by(name)}
        return attack(name, **{option: value for option, value in given.items() if value is not None})

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
