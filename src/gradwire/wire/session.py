"""One round between a server and its clients, as two objects with messages in and messages out.

Whatever carries the messages drives these two and nothing else: an in-process loop, torch.distributed, a DDP hook, a
Flower app. Both are idempotent: a message that is delivered twice changes nothing, and its sender gets the answer that
it got before. The server's side is the one door: it checks, counts and records every message of the round.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gradwire.errors import TooFewError, WireError
from gradwire.wire.message import EVERYONE, SERVER, Message
from gradwire.wire.protocol import ClientHalf, Deal, Dropped, Send, ServerHalf, Tensors, wide
from gradwire.wire.transcript import Transcript

C = TypeVar("C")
S = TypeVar("S")
Check = Callable[[str, str, Tensors], None]
"""(party, phase, tensors) → None. Raises WireError where a client must not send such tensors in this phase."""
Replies = Sequence[tuple[Message, tuple[str, ...]]]
"""The server's messages, each with the clients that it is for."""


class ClientSession(Generic[C]):
    """A client's side of one round.

    Attributes:
        sending: what the client has to send now; None when it is done.
        outcome: what its half returned; None before that.
        settled: its private state, should it vanish now: see `Send.settled`. None where its messages changed nothing.
        gone: whether the client has vanished, as a half says by raising `Dropped`.
        replies: the server's messages so far. A session with the same half that answers them again stands here too.
    """

    def __init__(self, half: ClientHalf[C], party: str, round: int):
        self.party, self.round = party, round
        self.sending: Send | None = None
        self.outcome: C | None = None
        self.settled: Tensors | None = None
        self.gone = False
        self.replies: list[Message] = []
        self._half = half
        self._answers: dict[str, Message | None] = {}
        with suppress(Dropped):
            self._advance(None)

    @property
    def done(self) -> bool:
        """Whether the half has returned."""
        return self.sending is None and not self.gone

    def begin(self) -> Message:
        """The first message.

        Raises:
            WireError: the half sends nothing at all.
        """
        if self.replies or self.sending is None:
            raise WireError(f"round {self.round}: {self.party} has begun already, or has nothing to send")
        return self._message(self.sending)

    def answer(self, reply: Message) -> Message | None:
        """The next message; None when the client is done. A reply that comes again gets the same answer again.

        Raises:
            WireError: the reply is not from the server, not for this client, or of another round or phase.
            Dropped: the client is gone.
        """
        if reply.phase in self._answers and reply.round == self.round:
            return self._answers[reply.phase]
        due = None if self.sending is None else self.sending.phase
        if (reply.sender, reply.round, reply.phase) != (SERVER, self.round, due) or reply.receiver not in (
            EVERYONE,
            self.party,
        ):
            raise WireError(f"got {reply.name}; {due!r} of round {self.round} from {SERVER} to {self.party} was due")
        self._advance(reply.tensors)
        self.replies.append(reply)
        sent = None if self.sending is None else self._message(self.sending)
        self._answers[reply.phase] = sent
        return sent

    def _advance(self, reply: Tensors | None) -> None:
        """Let the half go on to what it sends next, or to its end."""
        if self.sending is not None and self.sending.settled is not None:
            self.settled = self.sending.settled
        try:
            self.sending = next(self._half) if reply is None else self._half.send(reply)
        except StopIteration as stop:
            self.sending, self.outcome = None, stop.value
        except Dropped:
            self.sending, self.gone = None, True
            raise

    def _message(self, send: Send) -> Message:
        return Message(self.party, SERVER, self.round, send.phase, send.tensors)


class ServerSession(Generic[S]):
    """The server's side of one round.

    Attributes:
        parties: the clients that are still in the round.
        refused: clients that were dropped, party → why.
        result: what the half returned; None before `finish`.
    """

    def __init__(
        self,
        half: ServerHalf[S],
        parties: Iterable[str],
        round: int,
        check: Check = lambda party, phase, tensors: None,
        transcript: Transcript | None = None,
        adds: bool = False,
    ):
        """Begin.

        Args:
            adds: whether messages are added up as they come and only their mean is kept, as the half needs no more: it
                has one phase, in which clients send with `mean`. What comes early counts for those that have sent then.
        """
        self.round = round
        self.parties = tuple(parties)
        self.refused: dict[str, str] = {}
        self.result: S | None = None
        self.transcript = Transcript(keep=0) if transcript is None else transcript
        self._half, self._check, self._adds = half, check, adds
        self._totals: dict[str, dict[str, Tensor]] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._counted: tuple[str, ...] = ()
        self._uploads: dict[str, Message] = {}
        self._early: dict[str, dict[str, Message]] = {}
        self._closed: set[str] = set()
        next(half)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The clients whose message of this phase has not come yet."""
        return tuple(party for party in self.parties if party not in self._uploads)

    def receive(self, party: str, data: bytes | bytearray | memoryview | Message, early: bool = False) -> bool:
        """Take a client's message in. One that cannot be taken is counted, and its sender named and dropped.

        A message that came before is passed over.

        Args:
            early: whether it is one of a later phase, which waits until `finish`.

        Returns:
            whether the message stands among those of its phase.

        Raises:
            WireError: the client is not one of this round's.
        """
        if party in self.refused:
            return False
        if party not in self.parties:
            raise WireError(f"round {self.round}: {party} is not among its clients {', '.join(self.parties)}")
        try:
            message = data if isinstance(data, Message) else Message.decode(data)
            if (message.sender, message.receiver, message.round) != (party, SERVER, self.round):
                raise WireError(f"got {message.name}; one of round {self.round} from {party} was due")
        except WireError as error:
            if not isinstance(data, Message):
                self.transcript.count(party, self.round, len(data), (SERVER,))
            self.drop(party, str(error))
            return False
        phase = self._early.setdefault(message.phase, {}) if early else self._uploads
        if party in phase or message.phase in self._closed:
            return party in phase
        size = message.size if isinstance(data, Message) else len(data)
        self.transcript.record(message, size, (SERVER,))
        try:
            finite(message)
            self._check(party, message.phase, message.tensors)
        except WireError as error:
            self.drop(party, str(error))
            return False
        if self._adds and not early:
            self._add(message)
            message = replace(message, tensors={})
        phase[party] = message
        return True

    def _add(self, message: Message) -> None:
        """Add a message to those of its phase."""
        totals = self._totals.setdefault(message.phase, {})
        for name, tensor in message.tensors.items():
            self._dtypes[name] = tensor.dtype
            totals[name] = totals[name].add_(tensor) if name in totals else tensor.to(wide(tensor.dtype), copy=True)

    def receive_mean(self, send: Send, mean: Tensors, party: str) -> None:
        """Take in the mean of what all clients sent in a phase, which a collective has formed.

        Args:
            send: what this process's client, `party`, gave to it: the others' messages are as long.
        """
        for each in self.parties:
            message = Message(each, SERVER, self.round, send.phase, send.tensors)
            if each == party:
                self.transcript.record(message, message.size, (SERVER,))
            else:
                self.transcript.count(each, self.round, message.size, (SERVER,))
        self._uploads = {EVERYONE: Message(EVERYONE, SERVER, self.round, send.phase, mean)}

    def drop(self, party: str, why: str) -> None:
        """Leave a client out from now on, and say why."""
        self.refused.setdefault(party, why)
        self.parties = tuple(each for each in self.parties if each != party)
        self._uploads.pop(party, None)

    def close(self, send: bool = True) -> Replies:
        """End a phase with what has come; the replies, each with the clients that it is for.

        Clients whose message has not come are not dropped by that: a half that cannot go on without them says so.

        Args:
            send: whether the replies go over the wire, and so are counted and recorded.

        Raises:
            TooFewError: every client has dropped out, or too many; it tells why any was left out.
            WireError: nothing has come, or the half does not reply, or not to just those that sent.
        """
        self._keep_one_phase()
        if not self._uploads and self.parties:
            raise WireError(f"round {self.round}: {', '.join(self.parties)} sent nothing new since the last phase")
        if not self._uploads:
            raise TooFewError(f"round {self.round}: every client has dropped out{self._reasons()}")
        phase = next(iter(self._uploads.values())).phase
        senders = tuple(self._uploads)
        uploads: dict[str, Tensors] = {party: message.tensors for party, message in self._uploads.items()}
        if self._adds:
            means = {name: total / len(senders) for name, total in self._totals.pop(phase).items()}
            uploads = {EVERYONE: {name: each.to(self._dtypes[name]) for name, each in means.items()}}
            self._counted = self._counted or senders
        try:
            reply = self._half.send(uploads)
        except StopIteration:
            reply = None
        except TooFewError as error:
            raise TooFewError(f"{error}{self._reasons()}") from None
        if reply is None:
            raise WireError(f"round {self.round}: the server did not reply in phase {phase!r}")
        self._uploads = {}
        self._closed.add(phase)
        for party, why in reply.left_out.items():
            self.drop(party, why)
        receivers = tuple(party for party in senders if party not in reply.left_out)
        receivers = self.parties if senders == (EVERYONE,) else receivers
        replies = self._addressed(reply, receivers)
        for message, to in replies if send else ():
            self.transcript.record(message, message.size, to)
        return replies

    def finish(self) -> S:
        """End the round, with the phases whose messages came early: what the server's half returns.

        Messages of clients that were dropped since are among them: the half knows whom it has counted.

        Raises:
            WireError: it waits for a further phase.
        """
        for messages in self._early.values():
            self._uploads = dict(messages)
            if self._adds:
                self._uploads = {party: messages[party] for party in self._counted}
                for message in self._uploads.values():
                    self._add(message)
            self.close(send=False)
        try:
            self._half.send({})
        except StopIteration as stop:
            self.result = stop.value
            return stop.value
        raise WireError(f"round {self.round}: the server waits for a phase that no client sends")

    def _addressed(self, reply: Send | Deal, receivers: tuple[str, ...]) -> Replies:
        """A reply as messages."""
        if isinstance(reply, Send):
            return [(Message(SERVER, EVERYONE, self.round, reply.phase, reply.tensors), receivers)]
        if set(reply.tensors) != set(receivers):
            dealt, due = sorted(reply.tensors), sorted(receivers)
            raise WireError(f"round {self.round}, phase {reply.phase!r}: the server replies to {dealt}, not to {due}")
        hands = reply.tensors
        return [(Message(SERVER, each, self.round, reply.phase, hands[each]), (each,)) for each in receivers]

    def _keep_one_phase(self) -> None:
        """Drop the clients that are in another phase than most."""
        phases = [message.phase for message in self._uploads.values()]
        most = max(phases, key=phases.count, default="")
        for party, message in list(self._uploads.items()):
            if message.phase != most:
                self.drop(party, f"{message.name} came in phase {most!r}")

    def _reasons(self) -> str:
        return "".join(f"; {party}: {why}" for party, why in self.refused.items())


def finite(message: Message) -> None:
    """Refuse a message with a number that is not finite.

    Raises:
        WireError: naming the tensor.
    """
    for name, tensor in message.tensors.items():
        # A finite sum of floats says in one pass that every term is.
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise WireError(f"message {message.name}: {name!r} is not finite in {bad} of {tensor.numel()} entries")
