"""Rounds of secure sums in tests: clients with integer vectors, some of which drop out, and a server."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gradwire.errors import GradwireError
from gradwire.secure import identity
from gradwire.secure.identity import Gathering
from gradwire.secure.masks import Codes
from gradwire.secure.protocol import Total
from gradwire.secure.ring import Ring
from gradwire.wire import InProcess, Send, client, drop_out
from gradwire.wire.transport import drive


def least(clients: int) -> int:
    """The smallest threshold that is allowed if a third of so many clients may side with the server."""
    return (clients + clients // 3) // 2 + 1


def states(clients: int) -> dict[str, dict]:
    """Private states of clients that have exchanged keys."""
    fresh = {client(i): identity.fresh() for i in range(clients)}
    public = {party: identity.published(state) for party, state in fresh.items()}
    return {party: identity.with_known_keys(state, party, public) for party, state in fresh.items()}


def contributing(protocol, gathering, private, public, codes, ring):
    member = yield from protocol.join(gathering, private, public)
    total = yield from member.add(codes, ring, "masked")
    return total, member.state


def server_half(protocol, gathering, public, ring, count):
    server = protocol.server(gathering, public)
    uploads = yield None
    server, uploads = yield from server.open(uploads)
    total = yield from server.total(uploads, ring, count, "masked")
    yield Send(gathering.phase(protocol.closing("masked")), total.tensors(), left_out=total.liars)
    return total


def run_round(
    protocol,
    private: Mapping[str, dict],
    vectors: list[Codes],
    ring: Ring,
    *,
    round: int = 0,
    public: Mapping | None = None,
    drops: Mapping[str, str] | None = None,
    curve: str = "x25519",
    transport: InProcess | None = None,
    tamper: Callable | None = None,
    digest: bytes | None = b"said",
) -> tuple[Total, dict[str, dict], InProcess]:
    """One round: the sum, the states of those who stayed, and the transport with its transcript."""
    gathering = Gathering(tuple(private), round, 0, curve, digest=digest)
    halves = {
        party: contributing(protocol, gathering, state, public or {}, codes, ring)
        for (party, state), codes in zip(private.items(), vectors, strict=True)
    }
    for party, phase in (drops or {}).items():
        halves[party] = drop_out(halves[party], phase)
    transport = transport or InProcess()
    server = server_half(protocol, gathering, public or {}, ring, len(vectors[0]))
    outcomes, total = drive(transport, halves, tamper(server) if tamper else server, round)
    for seen, _ in outcomes.values():
        assert np.array_equal(seen.codes, total.codes)
        assert seen.contributors == total.contributors
    return total, {party: state for party, (_, state) in outcomes.items()}, transport


def in_phase(phase: str, change: Callable) -> Callable:
    """For `run_round`: a server whose reply in one phase goes through `change`."""

    def tamper(server):
        reply = next(server)
        while True:
            uploads = yield reply
            try:
                reply = server.send(uploads)
            except StopIteration as stop:
                return stop.value
            if reply.phase == phase:
                reply = change(reply)

    return tamper


def refused(match: str, *args, **kwargs) -> None:
    """The round that `run_round` would run ends with this error, and nobody has been told a sum."""
    transport = InProcess()
    with pytest.raises(GradwireError, match=match):
        run_round(*args, transport=transport, **kwargs)
    assert not any("sum" in message.tensors for message in transport.transcript.messages())


def random_codes(ring: Ring, count: int, seed: int) -> list[Codes]:
    generator = np.random.default_rng(seed)
    edges = [np.zeros(count, ring.dtype), np.full(count, ring.ceiling, ring.dtype)]
    drawn = [generator.integers(0, ring.ceiling, count, ring.dtype, endpoint=True) for _ in range(ring.clients)]
    return [*edges, *drawn][: ring.clients]
