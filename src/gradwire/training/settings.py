"""What decides a training run."""

from dataclasses import dataclass

from gradwire.devices import check_device
from gradwire.errors import GradwireError, unknown

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "cosine")
ON_NAN = ("stop", "skip")


@dataclass(frozen=True)
class TrainSettings:
    """Distributed SGD, over simulated clients or one a process: each round, every client sends one batch's gradient.

    Attributes:
        scheme: the spec of what is done to updates on their way.
        clients: how many there are, each with its part of the data set as `partition` deals it.
        rounds: how many; one optimiser step each.
        batch_size: examples a client and round.
        optimizer: "sgd" or "adam", applied to the aggregated update.
        lr: learning rate, and `weight_decay`, of either; `momentum` and `nesterov`, of SGD. A scheme with a momentum
            of its own (dgc) replaces SGD's.
        schedule: "constant", or "cosine": the rate falls to zero over `rounds`.
        on_nan: what to do when a client's gradient is not finite: "stop", or "skip" the round for all and count it.
        seed: decides initial parameters, partition, batches and the scheme's public randomness.
    """

    scheme: str = "none"
    clients: int = 4
    partition: str = "iid"
    rounds: int = 200
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    nesterov: bool = False
    schedule: str = "constant"
    on_nan: str = "stop"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("clients", "batch_size"):
            if getattr(self, name) < 1:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.rounds < 0:
            raise GradwireError(f"rounds is {self.rounds}; it must not be negative")
        if not self.lr > 0:
            raise GradwireError(f"lr is {self.lr}; it must be positive")
        if not 0 <= self.momentum < 1:
            raise GradwireError(f"momentum is {self.momentum}; it must be in [0, 1)")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum > 0):
            raise GradwireError("nesterov needs optimizer sgd and a positive momentum")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("on_nan", ON_NAN)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if self.weight_decay < 0:
            raise GradwireError(f"weight_decay is {self.weight_decay}; it must not be negative")
        if self.seed < 0:
            raise GradwireError(f"seed is {self.seed}; it must not be negative")
        check_device(self.device)
