"""What decides a training run."""

from dataclasses import dataclass
from fractions import Fraction
from math import cos, pi
from typing import Literal

from gradwire.devices import check_device
from gradwire.errors import GradwireError, check_counts, check_fraction, check_words, not_negative, positive
from gradwire.schemes import spec_of

OPTIMIZERS = ("sgd", "adam")
AVERAGES = ("plain", "weighted")
SCHEDULES = ("constant", "cosine")
ON_NAN = ("stop", "skip")
ON_FEW = ("stop", "skip")
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainSettings:
    """Distributed SGD and federated averaging, over simulated clients or one a process.

    Each round, every client of the round sends one batch's gradient, or, under local work, what several steps of its
    own have changed (old − new parameters); everybody takes one optimiser step along the mean.

    Attributes:
        scheme: the spec of what is done to updates on their way.
        loss: cross_entropy, mse, bce, next_token, reported or package.module:function. [default: the data's own]
        clients: how many there are, each with its part of the data set as `partition` deals it.
        sample: how many of them take part in a round, drawn anew each time; None: all.
        rounds: how many; one step along the mean each.
        batch_size: examples a step of a client.
        sampling: how a step takes them: shuffle, as many from shuffled data; or poisson, each of the client's examples
            by a coin of its own, so many in expectation, by which the step divides. poisson:0.05 says how likely each.
        local_steps: steps of SGD that a client takes in a round, or `local_epochs`, its passes over its data. With
            neither, it sends one gradient.
        average: of the clients' updates: "plain", or "weighted" by how many examples each has.
        optimizer: "sgd" or "adam", applied to the aggregated update.
        lr: learning rate, `weight_decay`, `momentum` and `nesterov` of the optimiser; under local work, those of the
            clients' SGD, whose momentum begins anew each round. A scheme with a momentum of its own (dgc) replaces
            the optimiser's.
        server_lr: under local work, the rate of the optimiser, which has no momentum then; by default 1, which is
            federated averaging. Adam has no such default.
        drop_last: leave out the last batch of a local epoch, where it is smaller than the others.
        schedule: of lr: "constant", or "cosine": it falls to zero over `rounds`.
        on_nan: what to do when a client's gradient is not finite: "stop", or "skip" the round for all and count it.
        drop_clients: the chance that a client vanishes before any one message of its own, by a schedule that the seed
            decides; the round is that of the others.
        on_few: what to do when too few are left to finish a round: "stop", or "skip" it and count it.
        malicious: how many of the clients, the first ones, do what `malice` says: flip, trigger or sign, with boost=…
            and shaped=true (`training.malice`).
        rule: how the server makes the mean: mean; or, where the scheme shows it single updates, median, clip, or
            krum:F against F malicious clients (`training.robust`).
        precision: of the clients' forward and backward products; "bf16" keeps parameters, updates and their sums in
            float32.
        seed: decides initial parameters, partition, batches and the scheme's public randomness.
    """

    scheme: str = "none"
    loss: str = ""
    clients: int = 4
    sample: int | None = None
    partition: str = "iid"
    rounds: int = 200
    batch_size: int = 32
    sampling: str = "shuffle"
    local_steps: int | None = None
    local_epochs: int | None = None
    average: str = "plain"
    lr: float = 0.05
    server_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    drop_last: bool = False
    optimizer: str = "sgd"
    nesterov: bool = False
    schedule: str = "constant"
    on_nan: str = "stop"
    drop_clients: float = 0.0
    on_few: str = "stop"
    malicious: int = 0
    malice: str = ""
    rule: str = "mean"
    precision: Precision = "fp32"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", spec_of(self.scheme))
        check_counts("", self, "clients", "batch_size", "local_steps", "local_epochs")
        if self.local_steps is not None and self.local_epochs is not None:
            raise GradwireError("local_steps and local_epochs exclude each other; give one of them")
        if self.sample is not None and not 1 <= self.sample <= self.clients:
            raise GradwireError(f"sample is {self.sample}; it must be from 1 to {self.clients}, for so many clients")
        not_negative("", self, "rounds", "weight_decay", "seed")
        positive("", self, "lr", "server_lr")
        check_fraction("", self, "momentum", "drop_clients")
        if not self.local and self.server_lr is not None:
            raise GradwireError(f"server_lr is {self.server_lr}; without local work there is one rate only, lr")
        if self.local and self.optimizer == "adam" and self.server_lr is None:
            raise GradwireError(
                "server_lr is not given; the server's Adam needs one, such as 0.01 (1 is for averaging)"
            )
        if self.drop_last and self.local_epochs is None:
            raise GradwireError("drop_last is for local epochs; steps have batches of one size anyway")
        if self.local and self.nesterov:
            raise GradwireError("nesterov is not known to the clients' SGD; leave it out under local work")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum > 0):
            raise GradwireError("nesterov needs optimizer sgd and a positive momentum")
        check_words(self, optimizer=OPTIMIZERS, average=AVERAGES, schedule=SCHEDULES, on_nan=ON_NAN, on_few=ON_FEW)
        self.rate(1)
        if self.precision not in PRECISIONS:
            raise GradwireError(f"precision is {self.precision!r}; it must be {' or '.join(PRECISIONS)}")
        if not 0 <= self.malicious <= self.clients:
            raise GradwireError(
                f"malicious is {self.malicious}; it must be from 0 to {self.clients}, of so many clients"
            )
        if bool(self.malicious) != bool(self.malice):
            raise GradwireError(f"malicious is {self.malicious} and malice {self.malice!r}; they go together")
        check_device(self.device)

    @property
    def local(self) -> bool:
        """Whether clients work locally, and send what that changed in place of a gradient."""
        return self.local_steps is not None or self.local_epochs is not None

    @property
    def server_rate(self) -> float:
        """The rate of the optimiser under local work."""
        return 1.0 if self.server_lr is None else self.server_lr

    @property
    def cohort(self) -> int:
        """Clients a round."""
        return self.clients if self.sample is None else self.sample

    @property
    def poisson(self) -> bool:
        """Whether batches are Poisson samples."""
        return self.rate(1) is not None

    def rate(self, examples: int) -> float | None:
        """The chance with which an example of a client of so many is in a Poisson batch; None for shuffled batches.

        Raises:
            GradwireError: another sampling, or a chance outside (0, 1].
        """
        kind, _, given = self.sampling.partition(":")
        if self.sampling == "shuffle":
            return None
        try:
            rate = float(given) if given else min(1.0, self.batch_size / examples)
        except ValueError:
            rate = 0.0
        if kind != "poisson" or not 0 < rate <= 1:
            raise GradwireError(f"sampling is {self.sampling!r}; it must be shuffle, poisson or poisson:RATE in (0, 1]")
        return rate

    def passes(self, rounds: int, examples: int) -> Fraction:
        """How often so many rounds go through a data set of so many examples."""
        if self.local_epochs is not None:
            return Fraction(rounds * self.local_epochs * self.cohort, self.clients)
        return Fraction(rounds * (self.local_steps or 1) * self.cohort * self.batch_size, examples)


def learning_rate(settings: TrainSettings, round: int) -> float:
    """Of lr: constant, or down to zero along half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    if settings.schedule == "cosine":
        return settings.lr * (1 + cos(pi * round / settings.rounds)) / 2
    return settings.lr
