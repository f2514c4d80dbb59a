"""Rounds of a real run, recorded: their messages, and what is public beside them, in one file that an audit can attack.

The file begins with a line of text that says what it holds. A transcript follows, in which each round begins with a
message that holds the public part: the scheme's spec and its public state before the round, the seed, the parties and
their settings, and the model before the forward pass. Nothing in it was secret from whoever took part; but whoever has
it can attack the round, so that only its owner may read the file.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError, WireError, in_line
from gradwire.models.mode import copied
from gradwire.runs import replacing
from gradwire.schemes import State
from gradwire.schemes.buckets import joined
from gradwire.tasks import Task, task_of
from gradwire.wire import EVERYONE, SERVER, Message, Transcript, View
from gradwire.wire.view import LocalWork, Mode, Weights

PUBLIC = "public"
TITLE = b"gradwire recording: "


@dataclass(frozen=True)
class RecordedRound:
    """One round, as one party saw it.

    Attributes:
        scheme: spec of the scheme, and `seed`, the run's public seed.
        round: its number, and `epoch`, passes over the data before it.
        victim: the client whose own uploads are among the messages in any case.
        model: the network's state dict before the round; {} where the recording is redacted.
        buckets: parameter names, bucket by bucket, where the scheme was applied to one after the other (DDP).
        public: the scheme's public state before the round; with buckets, their names preceded by a bucket's number.
        work: the clients' local steps; None where they sent gradients.
        local: whether they sent what training of their own changed, of which the recorder knows no more: an audit must
            be told the `work`.
        weights: how clients count: see `schemes.Round`.
        carried: whether error feedback had anything left of earlier rounds, so that messages hold more than a gradient.
        domain: the fingerprint of what the inputs are; "" where the recorder was not told.
        sizes: bytes of each message, in order.
        batch: examples of the victim's gradient, in `passes` forward passes; 0 where the recorder was not told.
        evaluated: names of the modules that ran in evaluation mode ("" is the network); None: not told.
        held: the victim's private state before the first of several rounds, named as `public` is: somebody who heard
            all rounds before it knows it as far as `attacks.inversion.listener` says.
    """

    scheme: str
    seed: int
    round: int
    clients: tuple[str, ...]
    victim: str
    epoch: int = 0
    work: LocalWork | None = None
    weights: Weights = "equal"
    carried: bool = False
    buckets: tuple[tuple[str, ...], ...] = ()
    domain: str = ""
    sizes: tuple[int, ...] = ()
    local: bool = False
    batch: int = 0
    passes: int = 1
    evaluated: tuple[str, ...] | None = None
    model: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    public: State = field(default_factory=dict, repr=False)
    held: State = field(default_factory=dict, repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report has to say of an attack on this round."""
        notes = []
        if self.carried:
            both = f"messages of round {self.round} hold the gradient and what error feedback kept of earlier rounds"
            notes.append(f"{both}: what one of them gives away alone is a lower bound")
        if self.passes > 1:
            notes.append(f"the gradient of round {self.round} is the sum of {self.passes} backward passes")
        return tuple(notes)

    def of_client(self, name: str, work: LocalWork | None) -> "RecordedRound":
        """The same round with another victim ("": the recorded one), whose local steps are these (None: as recorded).

        Raises:
            GradwireError: the round was without it, or it holds no local steps that the recorder did not know.
        """
        if work is not None and not self.local:
            holds = "gradients" if self.work is None else f"{self.work.steps} local steps, as it was recorded"
            raise GradwireError(f"round {self.round} holds {holds}; leave --local-steps out")
        if name and name not in self.clients:
            raise GradwireError(f"round {self.round} has no client {name!r}; it has {', '.join(self.clients)}")
        return replace(self, victim=name or self.victim, work=work or self.work)

    def redacted(self) -> "RecordedRound":
        """The same round without anything but sizes."""
        empty = tuple(replace(message, tensors={}) for message in self.messages)
        return replace(self, model={}, public={}, held={}, messages=empty, sizes=tuple(m.size for m in self.messages))

    def view(
        self,
        model: nn.Module,
        shape: tuple[int, ...],
        targets: Tensor | None = None,
        *,
        mode: Mode = "train",
        task: Task | None = None,
    ) -> View:
        """What the server, or whoever listened, saw of the victim in this round: ready for `gradwire.invert`.

        Args:
            model: a network of the recorded kind; a copy of it takes over the recorded parameters.
            shape: of the victim's batch, (B, *domain.shape).
            targets: of the batch, such as class numbers (B,), where they are assumed known.
            task: by default that of images and class numbers.

        Raises:
            GradwireError: the network or the inputs are of another kind, or the recording holds sizes only.
        """
        if not self.model:
            raise GradwireError(f"the recording of round {self.round} is redacted: it holds sizes alone")
        if self.local and self.work is None:
            raise GradwireError(
                f"round {self.round} holds what clients' own training changed: name its --local-steps, --local-batch "
                "and --lr"
            )
        if self.domain and task is not None and self.domain != task.domain.fingerprint:
            raise GradwireError(
                f"the recording is of other {task.domain.what} than these: of another schema or vocabulary "
                f"({self.domain}, not {task.domain.fingerprint}); name the data that the run was trained on"
            )
        network = copied(model)
        if self.evaluated is not None:
            network.train("" not in self.evaluated)
            mode = "eval" if "" in self.evaluated else "train"
        try:
            for name in self.evaluated or ():
                network.get_submodule(name).training = False
            network.load_state_dict(dict(self.model))
        except (AttributeError, RuntimeError) as error:
            first = str(error).splitlines()[-1].strip()
            raise GradwireError(f"the recording is of another model than {type(model).__name__}: {first}") from None
        if any(not names for names in self.buckets):
            missing = [number for number, names in enumerate(self.buckets) if not names]
            raise GradwireError(f"the recorded round lacks buckets: those numbered {missing}")
        return View(
            adversary=SERVER,
            victim=self.victim,
            messages=self.messages,
            scheme=self.scheme,
            public=self.public,
            clients=self.clients,
            round=self.round,
            seed=self.seed,
            model=network,
            mode=mode,
            task=task_of(torch.empty(0, *shape[1:])) if task is None else task,
            shape=shape,
            bytes_up=sum(m.size for m in self.messages if m.sender == self.victim),
            bytes_down=sum(m.size for m in self.messages if m.sender == SERVER),
            targets=targets,
            buckets=self.buckets,
            work=self.work,
            weights=self.weights,
        )


def save(rounds: Mapping[int, RecordedRound], path: str | Path, redact: bool = False) -> str:
    """Write rounds to a file that only its owner may read; an interrupted write leaves what was there.

    Args:
        redact: keep sizes only.

    Returns:
        The line that says what the file holds.

    Raises:
        GradwireError: no round to write.
    """
    chosen = [each.redacted() if redact else each for each in rounds.values()]
    # Later residuals follow from the first one and the messages, as far as anybody else can know them.
    chosen = [replace(each, held={}) if i else each for i, each in enumerate(chosen)]
    if not chosen:
        raise GradwireError("no round was recorded; set record before one")
    transcript = Transcript()
    for each in chosen:
        for message in (_head(each), *each.messages):
            transcript.record(message, message.size, ())
    numbers = sorted(rounds)
    which = f"round {numbers[0]}" if len(numbers) == 1 else f"rounds {numbers[0]} to {numbers[-1]}"
    holds = "sizes of messages only" if redact else "the model, public state and messages: enough to attack them"
    line = f"{which} of {chosen[0].scheme}, {len(chosen[0].clients)} clients; {holds}"
    for_owner = partial(os.open, mode=0o600)
    with replacing(Path(path)) as temporary, open(temporary, "wb", opener=for_owner) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(TITLE + line.encode() + b"\n")
        file.write(transcript.encode())
    return line


def load(path: str | Path) -> dict[int, RecordedRound]:
    """The rounds that `save` wrote, by number.

    Raises:
        GradwireError: no such file, or one that holds no recorded round.
    """
    if not Path(path).is_file():
        raise GradwireError(f"there is no transcript {path}")
    data = Path(path).read_bytes()
    start = data.find(b"\n") + 1 if data.startswith(TITLE) else 0
    rounds: dict[int, RecordedRound] = {}
    for message in Transcript.decode(data[start:], str(path)):
        if message.phase == PUBLIC and "facts" in message.tensors:
            rounds[message.round] = _round(message)
        elif message.round in rounds:
            each = rounds[message.round]
            rounds[message.round] = replace(each, messages=(*each.messages, message))
        else:
            break
    if not rounds:
        raise GradwireError(f"transcript {path} holds no recorded round; gradwire's record options write one")
    return rounds


def _head(each: RecordedRound) -> Message:
    """A round's public part as a message."""
    facts = {k: v for k, v in vars(each).items() if k not in ("model", "public", "held", "messages", "work")}
    facts["work"] = None if each.work is None else asdict(each.work)
    tensors = {"facts": torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)}
    tensors |= {f"model/{name}": tensor for name, tensor in each.model.items()}
    tensors |= {f"state/{name}": tensor for name, tensor in each.public.items()}
    tensors |= {f"held/{name}": tensor for name, tensor in each.held.items()}
    return Message(each.victim, EVERYONE, each.round, PUBLIC, tensors)


def _round(head: Message) -> RecordedRound:
    """The round that a message begins, without its messages."""
    tensors = {
        kind: {n.removeprefix(f"{kind}/"): t for n, t in head.tensors.items() if n.startswith(f"{kind}/")}
        for kind in ("model", "state", "held")
    }
    try:
        facts = json.loads(head.tensors["facts"].numpy().tobytes())
        if wrong := [name for name, right in _RIGHT.items() if not right(facts[name])]:
            raise ValueError(f"{wrong[0]} is {facts[wrong[0]]!r}")
        facts |= {name: tuple(facts[name]) for name in ("clients", "sizes")}
        facts["buckets"] = tuple(map(tuple, facts["buckets"]))
        facts["work"] = None if facts["work"] is None else LocalWork(**facts["work"])
        if facts["evaluated"] is not None:
            facts["evaluated"] = tuple(facts["evaluated"])
        return RecordedRound(**facts, model=tensors["model"], public=tensors["state"], held=tensors["held"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        wrong_here = f"is damaged or of another version of gradwire: {in_line(error)}"
        raise WireError(f"round {head.round} of the transcript {wrong_here}") from None


def _number(value: object, least: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < inf


def _whole(value: object, least: float = 0) -> bool:
    return isinstance(value, int) and _number(value, least)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _worked(value: object) -> bool:
    """Whether this is what `asdict` makes of a client's local work."""
    if not isinstance(value, dict) or value.keys() != vars(LocalWork()).keys():
        return False
    return _whole(value["steps"], 1) and _whole(value["batch"], 1) and all(map(_number, value.values()))


_RIGHT: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("scheme", "victim", "domain"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("carried", "local"), lambda value: isinstance(value, bool)),
    **dict.fromkeys(("round", "epoch", "batch"), _whole),
    "seed": lambda value: _whole(value, -inf),
    "passes": lambda value: _whole(value, 1),
    "clients": lambda value: _texts(value) and len(value) > 0,
    "sizes": lambda value: isinstance(value, list) and all(map(_whole, value)),
    "work": lambda value: value is None or _worked(value),
    "weights": lambda value: value in get_args(Weights),
    "buckets": lambda value: isinstance(value, list) and all(map(_texts, value)),
    "evaluated": lambda value: value is None or _texts(value),
}
"""What each fact of a round must be."""


class Recorder:
    """Keeps a window of rounds as they are run.

    Attributes:
        keep: how many of the latest; None: all of them.
        rounds: what has been recorded, by number.
    """

    def __init__(self, keep: int | None = 1):
        self.keep = keep
        self.rounds: dict[int, RecordedRound] = {}

    def begin(self, facts: RecordedRound, model: nn.Module | Mapping[str, Tensor]) -> None:
        """Begin a round, before any forward pass of it; the oldest rounds beyond the window are forgotten."""
        state = model.state_dict() if isinstance(model, nn.Module) else model
        kept = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        self.rounds[facts.round] = replace(facts, model=kept)
        for number in sorted(self.rounds)[: -self.keep] if self.keep else ():
            del self.rounds[number]

    def add(self, round: int, messages: tuple[Message, ...], public: State) -> None:
        """Add what was sent in a round, and the scheme's public state before it."""
        each = self.rounds[round]
        self.rounds[round] = replace(each, messages=(*each.messages, *messages), public={**each.public, **public})

    def add_bucket(
        self,
        round: int,
        index: int,
        names: tuple[str, ...],
        messages: tuple[Message, ...],
        public: State,
        held: State | None = None,
    ) -> None:
        """Add what was sent of one bucket, and the victim's private state before it."""
        self.add(round, messages, joined({index: public}))
        each = self.rounds[round]
        each = replace(each, held={**each.held, **joined({index: held or {}})})
        buckets = [*each.buckets, *[()] * (index + 1 - len(each.buckets))]
        buckets[index] = names
        self.rounds[round] = replace(each, buckets=tuple(buckets))
