"""Messages of another phase or another round, and keys that are none: refused by name, with no sum or the others'."""

import re

import numpy as np
import pytest

from gradwire.errors import WireError
from gradwire.secure import directory
from gradwire.secure.byte_tensors import to_bytes
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.ring import Ring
from gradwire.wire import ClientSession, Deal, InProcess, Send, ServerSession
from tests.secure.sums import contributing, in_phase, refused, run_round, server_half, states
from tests.secure.test_keys import BAD_POINTS

RING = Ring(8, 3)
CODES = [np.zeros(4, np.uint8)] * 3
DOUBLE = DoubleMask(2, colluders=0)
HARMLESS = {("ready", "unmask"), ("survivors", "keys")}
"""What these hold of another phase says nothing wrong, or is a signature that nobody counts."""
PHASES = {
    Pairwise(): ("keys", "masked"),
    DOUBLE: ("keys", "shares", "ready", "masked", "survivors", "unmask"),
}
REORDERED = [
    (p, now, other)
    for p, phases in PHASES.items()
    for now in phases
    for other in phases
    if now != other and (now, other) not in HARMLESS
]
REPLAYED = [
    (Pairwise(), "keys"),
    (DOUBLE, "keys"),
    (DOUBLE, "shares"),
    (DOUBLE, "unmask"),
]
WIDTH = {"x25519": 32, "brainpoolP256r1": 33}


def sending(half, phase, change):
    """The same half, whose message in one phase goes through `change`."""
    send = next(half)
    while True:
        try:
            send = half.send((yield change(send) if send.phase == phase else send))
        except StopIteration as stop:
            return stop.value


def refused_from_client_1(match, protocol, private, phase, change, round=0, curve="x25519"):
    """Client 1 is named: as the one that ends the round without a sum, or that is left out of the others' sum."""
    gathering, transport = Gathering(tuple(private), round, 0, curve, digest=b"said"), InProcess()
    halves = {p: contributing(protocol, gathering, state, {}, CODES[0], RING) for p, state in private.items()}
    halves["client:1"] = sending(halves["client:1"], phase, change)
    sessions = {party: ClientSession(half, party, round) for party, half in halves.items()}
    half = server_half(protocol, gathering, {}, RING, 4)
    server = ServerSession(half, private, round, transcript=transport.transcript)
    try:
        transport.exchange(sessions, server)
        assert isinstance(protocol, DoubleMask)
        why = server.refused["client:1"]
    except WireError as error:
        assert not any("sum" in message.tensors for message in transport.transcript.messages())
        why = str(error)
    assert re.search(match, why), why


@pytest.fixture(scope="module")
def before():
    """For each protocol a round that is over: states, and messages by sender and phase."""
    rounds = {}
    for protocol in PHASES:
        private = states(3)
        _, _, transport = run_round(protocol, private, CODES, RING)
        rounds[protocol] = private, {(m.sender, m.phase): m.tensors for m in transport.transcript.messages()}
    return rounds


@pytest.mark.parametrize(("protocol", "phase", "other"), REORDERED)
def test_a_message_out_of_order_is_refused(before, protocol, phase, other):
    private, sent = before[protocol]
    reordered = Send(phase, sent["client:1", other])
    refused_from_client_1(f"round 0, phase '{phase}', client:1", protocol, private, phase, lambda _: reordered)


@pytest.mark.parametrize(("protocol", "phase"), REPLAYED)
def test_a_message_of_an_earlier_round_is_refused(before, protocol, phase):
    private, sent = before[protocol]
    replayed = Send(phase, sent["client:1", phase])
    wrong = "(it|the share of client:.) (signature|that it reveals)|its signature|find its keys or its shares wrong"
    refused_from_client_1(wrong, protocol, private, phase, lambda _: replayed, 1)


@pytest.mark.parametrize(("protocol", "phase", "other"), REORDERED)
def test_a_reply_out_of_order_is_refused(protocol, phase, other):
    replies = {}

    def keep(reply):
        replies[reply.phase] = reply
        return reply

    run_round(protocol, states(3), CODES, RING, tamper=in_phase(other, keep))
    tamper = in_phase(phase, lambda _: replies[other])
    # A client waits for the reply to what it has sent; one that it has had before it answers as it did before.
    with pytest.raises(WireError, match=rf"'{phase}' of round 0 from server to client:\d was due|sent nothing new"):
        run_round(protocol, states(3), CODES, RING, tamper=tamper)


@pytest.mark.parametrize("curve", BAD_POINTS)
@pytest.mark.parametrize(("protocol", "key"), [(Pairwise(), 0), (DOUBLE, 0), (DOUBLE, 1)])
def test_a_signed_key_that_is_no_point_is_refused(curve, protocol, key):
    """Of the two keys under double masks the first makes masks, the second seals shares."""
    private, width = states(3), WIDTH[curve]
    gathering = Gathering(tuple(private), 0, 0, curve)

    def bad(send):
        content = to_bytes(send.tensors["keys"])
        content = content[: key * width] + BAD_POINTS[curve][0] + content[(key + 1) * width :]
        return Send(send.phase, directory.publish(gathering, private["client:1"], content))

    match = f"of round 0, phase '(keys|shares)', client:1 is no usable point of {curve}"
    if isinstance(protocol, DoubleMask):
        match = "phase 'ready', client:1: 2 of 3 holders find its keys or its shares wrong"
    refused_from_client_1(match, protocol, private, "keys", bad, curve=curve)


def test_a_deal_is_not_taken_for_a_sum():
    deal = in_phase("unmask", lambda reply: Deal("unmask", {f"client:{i}": {} for i in range(3)}))
    refused("phase 'masked', server: message holds", DOUBLE, states(3), CODES, RING, tamper=deal)
