"""What a transport does, and that of a simulation: every party in this process, every message serialised even so."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from gradwire.errors import WireError
from gradwire.wire.message import EVERYONE, SERVER, Message
from gradwire.wire.protocol import ClientHalf, Send, ServerHalf, Tensors
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
        """Drive one round's halves against each other until every one of them has returned.

        Returns:
            what each client returned, and what the server returned.

        Raises:
            WireError: the halves do not follow one protocol: different phases, or one stops before the others.
        """
        next(server)
        sends = {party: next(half) for party, half in clients.items()}
        outcomes: dict[str, C] = {}
        while sends:
            phases = {send.phase for send in sends.values()}
            if len(phases) > 1 or len(sends) < len(clients):
                raise WireError(f"round {round}: clients are in different phases: {sorted(phases)}")
            uploads = {party: self._carry(send, party, SERVER, round, (SERVER,)) for party, send in sends.items()}
            reply = server.send(uploads)
            if reply is None:
                raise WireError(f"round {round}: the server did not reply in phase {phases.pop()!r}")
            received = self._carry(reply, SERVER, EVERYONE, round, tuple(clients))
            sends = {}
            for party, half in clients.items():
                try:
                    sends[party] = half.send(received)
                except StopIteration as stop:
                    outcomes[party] = stop.value
        try:
            server.send({})
        except StopIteration as stop:
            return outcomes, stop.value
        raise WireError(f"round {round}: the server waits for a phase that no client sends")

    def _carry(self, send: Send, sender: str, receiver: str, round: int, receivers: tuple[str, ...]) -> Tensors:
        data = Message(sender, receiver, round, send.phase, send.tensors).encode()
        message = Message.decode(data)
        self.transcript.record(message, len(data), receivers)
        return message.tensors
