"""What a carrier does, and the one of a simulation: every party in this process, every message serialised even so."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeVar

from gradwire.errors import WireError
from gradwire.wire.message import Message
from gradwire.wire.need import Need
from gradwire.wire.protocol import ClientHalf, Dropped, ServerHalf, Tensors
from gradwire.wire.session import ClientSession, ServerSession
from gradwire.wire.transcript import Transcript

C = TypeVar("C")
S = TypeVar("S")


class Transport(Protocol):
    """Carries the messages of a round between the parties, some or all of which live in this process.

    Attributes:
        offers: what a scheme may need and finds here.
    """

    transcript: Transcript
    offers: ClassVar[frozenset[Need]]

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes down the results of a run."""

    def local(self, parties: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a round's parties that live in this process."""

    def exchange(self, clients: Mapping[str, ClientSession[C]], server: ServerSession[S]) -> None:
        """Drive one round's sessions, those of the local clients, until each is done or dropped."""

    def share(self, tensors: Mapping[str, Tensors]) -> Mapping[str, Tensors]:
        """From what each local party tells to what all parties told: book-keeping beside the protocol, not counted."""


class InProcess:
    """Carries the messages of clients and a server that live in this process, and records them.

    Parties receive what was decoded from bytes, never one another's tensors.
    """

    offers: ClassVar[frozenset[Need]] = frozenset(Need)

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

    def exchange(self, clients: Mapping[str, ClientSession[C]], server: ServerSession[S]) -> None:
        """Drive one round's sessions against each other until every client is done or dropped, then end the server's.

        A client that refuses what the server says is left out, as one that has vanished is.

        Raises:
            WireError: the halves do not follow one protocol: one stops before the others.
            TooFewError: every client has dropped out, or too many for this protocol.
        """
        for party in [party for party, session in clients.items() if session.gone]:
            server.drop(party, "it vanished before its first message")
        sends = {party: session.begin() for party, session in clients.items() if not session.gone}
        while True:
            for party, message in sends.items():
                server.receive(party, message.encode())
            sends = {}
            done = []
            for reply, receivers in server.close():
                heard = Message.decode(reply.encode())
                for party in receivers:
                    try:
                        answer = clients[party].answer(heard)
                    except Dropped as gone:
                        server.drop(party, f"it vanished before {gone}")
                        continue
                    except WireError as why:
                        server.drop(party, f"it refuses to go on: {why}")
                        continue
                    if answer is None:
                        done.append(party)
                    else:
                        sends[party] = answer
            if not sends and done:
                server.finish()
                return
            if done:
                raise WireError(f"round {server.round}: {done[0]} is done while {min(sends)} still sends")


def drive(
    carrier: Transport, clients: Mapping[str, ClientHalf[C]], server: ServerHalf[S], round: int
) -> tuple[dict[str, C], S | None]:
    """Carry one round of bare halves: what each client that did not drop out returned, and the server (if it lives)."""
    sessions = {party: ClientSession(half, party, round) for party, half in clients.items()}
    parties = getattr(carrier, "parties", tuple(clients))
    serving = ServerSession(server, parties, round, transcript=carrier.transcript)
    carrier.exchange(sessions, serving)
    ended = {party: session.outcome for party, session in sessions.items() if session.outcome is not None}
    return ended, serving.result
