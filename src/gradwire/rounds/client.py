"""A client's side of a round that outlives its process: it can be saved between any two messages, and go on."""

import json
import secrets
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.rounds.halves import client_half
from gradwire.schemes import Contribution, Layout, Outcome, Round, Scheme, State, parse
from gradwire.secure.kdf import KeyStream
from gradwire.wire import ClientHalf, ClientSession, Message

KEY_BYTES = 32


class ClientRound:
    """A client's session under a scheme, with everything that it was made of.

    A session that is loaded runs its half again up to where it was, with the same secrets, so that an answer that is
    asked for twice is the same twice.

    Attributes:
        session: what messages go in and out of.
    """

    def __init__(
        self,
        scheme: Scheme,
        party: str,
        brought: Contribution,
        public: State,
        round: Round,
        key: bytes | None = None,
        replies: Sequence[Message] = (),
    ):
        self.scheme, self.party, self.brought, self.public, self.round = scheme, party, brought, public, round
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else key
        self.session = ClientSession(
            _drawing(client_half(scheme, brought, public, round), self._key), party, round.index
        )
        for reply in replies:
            self.session.answer(reply)

    @property
    def settled(self) -> State | None:
        """The private state to go into the next round with, should no further reply come; None where one is needed."""
        if self.session.outcome is not None:
            return self.session.outcome.private
        sending = self.session.sending
        return self.session.settled if sending is None or sending.settled is None else sending.settled

    def save(self) -> bytes:
        """The session as bytes. They hold the client's update, state and secrets: nobody else's business."""
        parts: dict[str, Mapping[str, Tensor]] = {
            **{name: getattr(self.brought, name) for name in ("update", "private", "buffers")},
            "public": self.public,
            "start": self.round.start or {},
            "reply": {str(i): _bytes(reply.frozen()) for i, reply in enumerate(self.session.replies)},
        }
        facts = {
            "scheme": self.scheme.spec,
            **{name: getattr(self.brought, name) for name in ("weight", "loss")},
            **{name: getattr(self.round, name) for name in ("clients", "seed", "epoch", "weights")},
            "began": self.round.fingerprint.hex(),
            "order": {part: list(tensors) for part, tensors in parts.items()},
            "key": self._key.hex(),
        }
        tensors = {f"{part}/{name}": t for part, several in parts.items() for name, t in several.items()}
        tensors["facts"] = _bytes(json.dumps(facts).encode())
        return Message(self.party, "", self.round.index, "saved", tensors).frozen()

    @classmethod
    def load(cls, data: bytes) -> "ClientRound":
        """The session that `save` wrote.

        Raises:
            WireError: bytes of something else.
        """
        message = Message.decode(data)
        try:
            facts = json.loads(message.tensors["facts"].numpy().tobytes())
            # A message forgets the order of its tensors, and layouts are made of it.
            parts = {
                part: {name: message.tensors[f"{part}/{name}"] for name in names}
                for part, names in facts["order"].items()
            }
            start = parts["start"] or None
            layout = Layout.of(parts["update"])
            clients = tuple(facts["clients"])
            told = facts["epoch"], start, facts["weights"], bytes.fromhex(facts["began"])
            round = Round(message.round, clients, facts["seed"], layout, *told)
            brought = Contribution(parts["update"], parts["private"], parts["buffers"], facts["weight"], facts["loss"])
            replies = [Message.decode(t.numpy().tobytes()) for t in parts["reply"].values()]
            key = bytes.fromhex(facts["key"])
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, GradwireError):
                raise
            raise WireError(f"these bytes are no saved session of a client: {error}") from None
        return cls(parse(facts["scheme"]), message.sender, brought, parts["public"], round, key, replies)


def _drawing(half: ClientHalf[Outcome], key: bytes) -> ClientHalf[Outcome]:
    """The half, whose secrets are all derived from one key: run again, it draws the same."""
    stream = KeyStream(key)
    with stream.drawn_from():
        try:
            send = next(half)
        except StopIteration as stop:
            return stop.value
    while True:
        reply = yield send
        with stream.drawn_from():
            try:
                send = half.send(reply)
            except StopIteration as stop:
                return stop.value


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
