"""What decides a run of `gradwire epsilon`."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from gradwire.data import partition
from gradwire.data import spec_of as spec_of_data
from gradwire.devices import check_device
from gradwire.errors import GradwireError, at_least, check_fraction, check_words, positive
from gradwire.registry import MODELS
from gradwire.schemes import parse, spec_of
from gradwire.schemes.accounting import multiplier
from gradwire.schemes.dpsgd import DPSGD
from gradwire.training import TrainSettings

KINDS = ("dirac", "input")


@dataclass(frozen=True)
class EpsilonSettings:
    """What decides a run of `gradwire epsilon`.

    Attributes:
        data: of `data.load`.
        model: of `models.build`. [default: convnet for images, mlp for tables, bert or gpt2 for text]
        loss: cross_entropy, bce or package.module:function. [default: the data's own]
        schemes: specs. [default: none and dpsgd:noise=0, which clips only]
        epsilons: what dpsgd is to guarantee: each adds a run with the noise that this takes.
        delta: δ of these guarantees, and of bounds where a scheme guarantees nothing.
        adjacency: what a canary's coin decides: replace, between it and its opposite, or zero-out, between it and
            nothing. The guarantee beside it is that for such neighbours.
        canary: kinds with the number in each client's data: dirac:2000, gradients of one entry each that a dishonest
            client may send; or input:200, random inputs with a label, or another one.
        norm: of dirac gradients; it must be above a scheme's clip for them to prove most.
        clients: who train together, each with all its data in every batch.
        partition: how the data are divided among them: iid, shards:2 or dirichlet:0.5.
        rounds: steps of each run, every one of which is heard.
        lr: step size of training.
        confidence: that the bounds of all rows hold together.
    """

    data: str = "digits"
    model: str = ""
    loss: str = ""
    schemes: tuple[str, ...] = ("none", "dpsgd:noise=0")
    epsilons: tuple[float, ...] = (1.0, 4.0, 8.0)
    delta: float = 1e-5
    adjacency: Literal["replace", "zero-out"] = "replace"
    canary: tuple[str, ...] = ("dirac:2000", "input:200")
    norm: float = 10.0
    clients: int = 8
    partition: str = "iid"
    rounds: int = 2
    lr: float = 0.05
    confidence: float = 0.9999
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", spec_of_data(self.data))
        object.__setattr__(self, "model", self.model and MODELS.spec(self.model))
        object.__setattr__(self, "schemes", tuple(map(spec_of, self.schemes)))
        at_least(1, clients=self.clients, rounds=self.rounds)
        check_words(self, adjacency=("replace", "zero-out"))
        positive("", self, "delta", "confidence", "norm")
        check_fraction("", self, "delta", "confidence")
        if wrong := [epsilon for epsilon in self.epsilons if not 0 < epsilon < float("inf")]:
            raise GradwireError(f"epsilon is {wrong[0]}; it must be positive and finite")
        check_device(self.device)
        partition.parse(self.partition)
        if not self.canary or not (self.schemes or self.epsilons):
            raise GradwireError("an audit of ε needs canaries, and a scheme or an epsilon")
        for spec in self.canary:
            canaries(spec)
        for spec in self.schemes:
            if parse(spec).sums_only:
                raise GradwireError(f"{spec} shows sums of all clients; each client's own messages are audited here")

    @property
    def audited(self) -> tuple[str, ...]:
        """The specs of all runs; noise is chosen so that `epsilons` are guaranteed after all rounds.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        exact = [multiplier(epsilon, self.delta, self.adjacency, self.rounds) for epsilon in self.epsilons]
        # Rounded up: a little more noise than it takes, in few digits.
        noises = [ceil(1000 * noise) / 1000 for noise in exact]
        return (*self.schemes, *(DPSGD(noise=noise, delta=self.delta).spec for noise in noises))

    def training(self, scheme: str) -> TrainSettings:
        """The settings of one run's training."""
        own = {name: getattr(self, name) for name in ("clients", "partition", "rounds", "lr", "seed", "device")}
        return TrainSettings(scheme=scheme, momentum=0.0, **own)


def canaries(spec: str) -> tuple[str, int]:
    """The kind and number in a spec such as `dirac:2000`.

    Raises:
        GradwireError: another kind, or none of them.
    """
    kind, _, number = spec.partition(":")
    if kind not in KINDS or not number.isdigit() or int(number) < 1:
        raise GradwireError(f"canary is {spec!r}; it must be dirac:NUMBER or input:NUMBER")
    return kind, int(number)
