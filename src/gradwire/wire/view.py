"""What one adversary sees of one round: its part of the transcript, and what is public."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from gradwire.tasks import Task
from gradwire.wire.message import SERVER, Message
from gradwire.wire.protocol import Tensors

BUFFERS, WEIGHTS = "buffers", "weights"
"""The phases in which clients send running statistics and tell their weights, beside the scheme's own."""
Weights = Literal["equal", "scaled", "told"]
Mode = Literal["train", "eval"]


@dataclass(frozen=True)
class LocalWork:
    """What a client does before it sends: SGD of its own, whose hyper-parameters are public.

    Its update is then (old − new parameters), which points the way a gradient does; for one step it is lr times the
    gradient, weight decay included.

    Attributes:
        steps: of SGD, without momentum.
        batch: examples a step; it divides the victim's batch. Each epoch goes through all of them in a new order, which
            the client keeps to itself.
        lr: the step size.
        weight_decay: each step follows gradient + weight_decay·parameter.
    """

    steps: int = 1
    batch: int = 1
    lr: float = 1.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Own:
    """What a fellow client brought to the round itself, and so knows of it beside its messages.

    Attributes:
        update: before the scheme did anything to it; `private`, its state under the scheme before the exchange.
    """

    update: Tensors = field(repr=False)
    private: Tensors = field(repr=False)


@dataclass(frozen=True)
class View:
    """One round of one victim, as one adversary sees it. An attack receives this and nothing else.

    Attributes:
        adversary: "server", "eavesdropper" or the party name of a fellow client.
        victim: the party under attack.
        messages: the messages of the round that reached the adversary's eyes.
        scheme: the spec of the scheme, which everybody knows.
        public: the scheme's public state before the round (whoever listened from the start knows it).
        clients: the parties that took part.
        round: the round's number, and `seed`, the run's public seed.
        model: the network with the parameters that the round started from.
        mode: "train" or "eval": how the victim ran the network.
        task: the domain of the inputs, and the loss that the victim computes.
        shape: (B, *domain.shape) of the victim's batch.
        bytes_up: bytes that the victim sent in the round, and `bytes_down` that reached it.
        targets: of the victim's batch, such as class numbers (B,), where they are assumed known; None where the attack
            has to infer them, or where they are made of the inputs.
        fellow_targets: those of the round's other clients, (|C| − 1, B, …), in the order of `clients`: known or not as
            `targets` are; None too where batches are of different sizes.
        own: what the adversary brought itself, where it is a client.
        buckets: parameter names, where the scheme was applied to one group of parameters after the other (DDP).
        work: the victim's local steps; None for a plain gradient.
        weights: how the round's clients count: see `schemes.Round`.
    """

    adversary: str
    victim: str
    messages: tuple[Message, ...]
    scheme: str
    public: Mapping[str, Tensor] = field(repr=False)
    clients: tuple[str, ...]
    round: int
    seed: int
    model: nn.Module = field(repr=False)
    mode: Mode
    task: Task
    shape: tuple[int, ...]
    bytes_up: int
    bytes_down: int
    targets: Tensor | None = None
    fellow_targets: Tensor | None = None
    own: Own | None = None
    buckets: tuple[tuple[str, ...], ...] = ()
    work: LocalWork | None = None
    weights: Weights = "equal"

    @property
    def weight(self) -> float | None:
        """What the victim's update was multiplied by, as far as the adversary knows; None where it does not."""
        if self.weights == "equal":
            return 1.0
        told = {m.sender: float(m.tensors["weight"]) for m in self.messages if m.phase == WEIGHTS}
        return told.get(self.victim)

    @property
    def buffers(self) -> Tensors | None:
        """What the model's running statistics became at the victim, as it sent them beside its update.

        A fellow client takes its own out of the mean: what is left is the mean over the others. None where the model
        has no running statistics, ran in evaluation mode, or sent them times a weight that the adversary does not know.
        """
        sent = {m.sender: m.tensors for m in self.messages if m.phase == BUFFERS}
        if self.victim in sent and self.weight is not None:
            return {name: tensor / self.weight for name, tensor in sent[self.victim].items()}
        if SERVER not in sent or self.adversary not in sent or self.weights != "equal":
            return None
        n, own = len(self.clients), sent[self.adversary]
        return {name: (n * mean - own[name]) / (n - 1) for name, mean in sent[SERVER].items()}

    def shares_model(self, other: "View") -> bool:
        """Whether both victims ran one network, with equal parameters, in one mode, on batches of one shape."""
        if (self.mode, self.shape, self.task, self.work) != (other.mode, other.shape, other.task, other.work):
            return False
        if self.model is other.model:
            return True
        mine, theirs = self.model.state_dict(), other.model.state_dict()
        return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
