"""A real step, recorded: its messages, and what is public beside them, in one file that an audit can attack.

The file is a transcript. Its first message holds the public part: the scheme's spec and its public state before the
step, the seed, the step's number, which parameters stood in which bucket, and the parameters that the step started
from. The messages follow, their phases named `bucket/phase`. Nothing in it was secret from whoever took part.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.schemes import State
from gradwire.schemes.buckets import joined
from gradwire.wire import EVERYONE, SERVER, Message, Transcript, View
from gradwire.wire.view import Mode

PUBLIC = "public"


@dataclass
class Recording:
    """One step, as one worker saw it.

    Attributes:
        scheme: spec of the scheme.
        round: the step's number.
        victim: the worker that recorded: its own uploads are among the messages in any case.
        model: the network's state dict as the step began.
        buckets: parameter names, bucket by bucket, and `public`, the scheme's public state before the step.
    """

    scheme: str
    seed: int
    round: int
    clients: tuple[str, ...]
    victim: str
    model: Mapping[str, Tensor] = field(repr=False)
    buckets: dict[int, tuple[str, ...]] = field(default_factory=dict)
    public: dict[int, State] = field(default_factory=dict, repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)

    def add(self, index: int, names: tuple[str, ...], public: State, messages: tuple[Message, ...]) -> None:
        """Take down a bucket."""
        self.buckets[index] = names
        self.public[index] = public
        self.messages += messages

    def save(self, path: Path) -> None:
        """Write the file."""
        facts = {
            "scheme": self.scheme,
            "seed": self.seed,
            "clients": self.clients,
            "victim": self.victim,
            "buckets": {str(index): names for index, names in self.buckets.items()},
        }
        tensors = {"facts": torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)}
        tensors |= {f"model/{name}": tensor for name, tensor in self.model.items()}
        tensors |= {f"state/{name}": tensor for name, tensor in joined(self.public).items()}
        transcript = Transcript()
        for message in (Message(self.victim, EVERYONE, self.round, PUBLIC, tensors), *self.messages):
            transcript.record(message, message.size, ())
        transcript.save(path)

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """What `save` wrote.

        Raises:
            GradwireError: no such file, or one that holds no recorded step.
        """
        if not Path(path).is_file():
            raise GradwireError(f"there is no transcript {path}")
        messages = Transcript.load(Path(path))
        if not messages or messages[0].phase != PUBLIC or "facts" not in messages[0].tensors:
            raise GradwireError(
                f"transcript {path} holds no recorded step; state.save_transcript of a DDP hook writes one"
            )
        head = messages[0].tensors
        facts = json.loads(head["facts"].numpy().tobytes())
        state = {name.removeprefix("state/"): tensor for name, tensor in head.items() if name.startswith("state/")}
        model = {name.removeprefix("model/"): tensor for name, tensor in head.items() if name.startswith("model/")}
        buckets = {int(index): tuple(names) for index, names in facts["buckets"].items()}
        public: dict[int, State] = {
            index: {n.removeprefix(f"{index}/"): t for n, t in state.items() if n.startswith(f"{index}/")}
            for index in buckets
        }
        return cls(
            facts["scheme"],
            facts["seed"],
            messages[0].round,
            tuple(facts["clients"]),
            facts["victim"],
            model,
            buckets,
            public,
            messages[1:],
        )

    def view(
        self,
        model: nn.Module,
        shape: tuple[int, ...],
        labels: Tensor | None = None,
        *,
        mode: Mode = "train",
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    ) -> View:
        """What the server, or whoever listened, saw of the victim in this step: ready for `gradwire.invert`.

        Args:
            model: a network of the recorded kind; a copy of it takes over the recorded parameters.
            shape: (B, C, H, W) of the victim's batch.
            labels: int64, shape (B,), where they are assumed known.

        Raises:
            GradwireError: the network is of another kind.
        """
        network = copy.deepcopy(model)
        try:
            network.load_state_dict(dict(self.model))
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise GradwireError(f"the recorded step is of another model than {type(model).__name__}: {first}") from None
        order = sorted(self.buckets)
        if order != list(range(len(order))):
            raise GradwireError(f"the recorded step lacks buckets: it has those numbered {order}")
        return View(
            adversary=SERVER,
            victim=self.victim,
            messages=self.messages,
            scheme=self.scheme,
            public=joined(self.public),
            clients=self.clients,
            round=self.round,
            seed=self.seed,
            model=network,
            mode=mode,
            loss=loss,
            shape=shape,
            bytes_up=sum(m.size for m in self.messages if m.sender == self.victim),
            bytes_down=sum(m.size for m in self.messages if m.sender == SERVER),
            labels=labels,
            buckets=tuple(self.buckets[index] for index in order),
        )
