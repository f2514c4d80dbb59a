"""What a transport does, and that of a simulation: every party in this process, every message serialised even so."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from gradwire.errors import TooFewError, WireError
from gradwire.wire.message import EVERYONE, SERVER, Message
from gradwire.wire.protocol import ClientHalf, Deal, Dropped, Send, ServerHalf, Tensors
from gradwire.wire.transcript import Transcript

C = TypeVar("C")
S = TypeVar("S")


class Transport(Protocol):
    """Carries the messages of a round between the parties, some or all of which live in this process."""

    transcript: Transcript

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes down what comes of a run."""

    def local(self, parties: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a round's parties that live in this process."""

    def exchange(
        self, clients: Mapping[str, ClientHalf[C]], server: ServerHalf[S], round: int
    ) -> tuple[dict[str, C], S | None]:
        """Drive one round's halves, those of the local clients; what each returned, and the server (if it lives)."""

    def share(self, tensors: Mapping[str, Tensors]) -> Mapping[str, Tensors]:
        """From what each local party tells to what all parties told: book-keeping beside the protocol, not counted."""


class InProcess:
    """Carries the messages of clients and a server that live in this process, and takes them down.

    Parties receive what was decoded from bytes, never one another's tensors.
    """

    def __init__(self, transcript: Transcript | None = None):
        self.transcript = Transcript() if transcript is None else transcript

    @property
    def leads(self) -> bool:
        """This process is the only one."""
        return True

    def local(self, parties: tuple[str, ...]) -> tuple[str, ...]:
        """All of them."""
        return parties

    def share(self, tensors: Mapping[str, Tensors]) -> Mapping[str, Tensors]:
        """Everything is here already."""
        return tensors

    def exchange(
        self, clients: Mapping[str, ClientHalf[C]], server: ServerHalf[S], round: int
    ) -> tuple[dict[str, C], S]:
        """Drive one round's halves against each other until every one of them has returned or dropped out.

        Returns:
            what each client that did not drop out returned, and what the server returned.

        Raises:
            WireError: the halves do not follow one protocol: different phases, or one stops before the others.
        """
        next(server)
        outcomes: dict[str, C] = {}
        sends = self._advance(clients, None, outcomes)
        while sends:
            phases = {send.phase for send in sends.values()}
            if len(phases) > 1 or outcomes:
                raise WireError(f"round {round}: clients are in different phases: {sorted(phases)}")
            uploads = {party: self._carry(send, party, SERVER, round, (SERVER,)) for party, send in sends.items()}
            reply = server.send(uploads)
            if reply is None:
                raise WireError(f"round {round}: the server did not reply in phase {phases.pop()!r}")
            sends = self._advance(clients, self._answer(reply, tuple(sends), round), outcomes)
        if clients and not outcomes:
            raise TooFewError(f"round {round}: every client has dropped out")
        try:
            server.send({})
        except StopIteration as stop:
            return outcomes, stop.value
        raise WireError(f"round {round}: the server waits for a phase that no client sends")

    def _advance(
        self, clients: Mapping[str, ClientHalf[C]], replies: Mapping[str, Tensors] | None, outcomes: dict[str, C]
    ) -> dict[str, Send]:
        """What the clients send next: those that got a reply, or all of them at the beginning."""
        sends = {}
        for party in clients if replies is None else replies:
            half = clients[party]
            try:
                sends[party] = next(half) if replies is None else half.send(replies[party])
            except StopIteration as stop:
                outcomes[party] = stop.value
            except Dropped:
                continue
        return sends

    def _answer(self, reply: Send | Deal, parties: tuple[str, ...], round: int) -> dict[str, Tensors]:
        """Carry the server's reply to everybody, or to each party its own."""
        if isinstance(reply, Send):
            return dict.fromkeys(parties, self._carry(reply, SERVER, EVERYONE, round, parties))
        if set(reply.tensors) != set(parties):
            dealt, waiting = sorted(reply.tensors), sorted(parties)
            raise WireError(f"round {round}, phase {reply.phase!r}: the server replies to {dealt}, not to {waiting}")
        hands = {party: Send(reply.phase, tensors) for party, tensors in reply.tensors.items()}
        return {party: self._carry(hands[party], SERVER, party, round, (party,)) for party in parties}

    def _carry(self, send: Send, sender: str, receiver: str, round: int, receivers: tuple[str, ...]) -> Tensors:
        data = Message(sender, receiver, round, send.phase, send.tensors).encode()
        message = Message.decode(data)
        self.transcript.record(message, len(data), receivers)
        return message.tensors
