"""A round: contributions, states and a carrier in; the mean, the states afterwards and the bytes out.

Training, captures, DDP's hook and rehearsals all run their rounds by this function; they differ in where updates come
from. Flower, whose two sides never meet in one process, drives the same sessions by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gradwire.rounds.halves import checking, client_half, server_half
from gradwire.schemes import Contribution, Outcome, Round, Scheme, State, Update
from gradwire.schemes.buckets import labelled
from gradwire.wire import ClientHalf, ClientSession, ServerSession, Tensors, Transport

Exposed = Callable[[str, ClientHalf[Outcome]], ClientHalf[Outcome]]
"""(party, its half) → the half of a client that may vanish."""


@dataclass(frozen=True)
class RoundResult:
    """What is there after a round.

    Attributes:
        aggregate: the mean update, on the CPU, in the parameters' dtypes.
        public: the scheme's public state; `private`, those of this process's clients, party → state.
        buffers: the mean of the clients' buffers; {} where none were sent.
        left_out: clients that vanished or were refused, party → why. The mean is that of the others.
        refused: those of them that sent what they must not.
    """

    aggregate: Update = field(repr=False)
    public: State = field(repr=False)
    private: Mapping[str, State] = field(repr=False)
    buffers: Tensors = field(repr=False)
    left_out: Mapping[str, str]
    refused: Mapping[str, str]


def run_round(
    scheme: Scheme,
    contributions: Mapping[str, Contribution],
    public: State,
    round: Round,
    carrier: Transport,
    exposed: Exposed = lambda party, half: half,
    bucket: int | None = None,
) -> RoundResult:
    """Run one round.

    Args:
        contributions: of the clients that live in this process.
        public: the scheme's public state before the round.
        exposed: wraps the halves of clients that may vanish.
        bucket: the number of the model's part that this is a round of, for its phases' names.

    Raises:
        TooFewError: too few clients are left for the scheme's protocol; all states are as before.
        WireError: halves that do not follow one protocol, or a carrier that has lost a process.
    """
    buffers = next(iter(contributions.values())).buffers
    halves = {party: client_half(scheme, brought, public, round) for party, brought in contributions.items()}
    half, check = server_half(scheme, public, round, buffers), checking(scheme, round, buffers, bucket)
    if bucket is not None:
        halves = {party: labelled(own, bucket) for party, own in halves.items()}
        half = labelled(half, bucket)
    clients = {party: ClientSession(exposed(party, half), party, round.index) for party, half in halves.items()}
    server = ServerSession(half, round.clients, round.index, check, carrier.transcript)
    carrier.exchange(clients, server)
    ended = {party: session.outcome for party, session in clients.items() if session.outcome is not None}
    first = next(iter(ended.values()))
    # A server of its own may know more than a client: what each of them sent it alone.
    served = server.result
    private = {
        party: ended[party].private if party in ended else session.settled or contributions[party].private
        for party, session in clients.items()
    }
    refused = {} if served is None else dict(served.refused)
    vanished = {party for party, session in clients.items() if session.gone}
    refused |= {party: why for party, why in server.refused.items() if party not in vanished}
    known = first.public if served is None else served.public
    return RoundResult(first.aggregate, known, private, first.buffers, {**server.refused, **refused}, refused)
