"""Messages of another phase or another round, and keys that are none: refused by name, and no sum is released."""

import numpy as np
import pytest

from gradwire.errors import WireError
from gradwire.secure import directory
from gradwire.secure.byte_tensors import to_bytes
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.ring import Ring
from gradwire.wire import Deal, InProcess, Send
from gradwire.wire.transport import drive
from tests.secure.sums import contributing, in_phase, refused, run_round, server_half, states
from tests.secure.test_keys import BAD_POINTS

RING = Ring(8, 3)
CODES = [np.zeros(4, np.uint8)] * 3
PHASES = {Pairwise(): ("keys", "masked"), DoubleMask(2): ("keys", "shares", "masked", "unmask")}
REORDERED = [(p, now, other) for p, phases in PHASES.items() for now in phases for other in phases if now != other]
REPLAYED = [(Pairwise(), "keys"), (DoubleMask(2), "keys"), (DoubleMask(2), "shares"), (DoubleMask(2), "unmask")]
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
    gathering, transport = Gathering(tuple(private), round, 0, curve), InProcess()
    halves = {p: contributing(protocol, gathering, state, {}, CODES[0], RING) for p, state in private.items()}
    halves["client:1"] = sending(halves["client:1"], phase, change)
    with pytest.raises(WireError, match=match):
        drive(transport, halves, server_half(protocol, gathering, {}, RING, 4), round)
    assert not any("sum" in message.tensors for message in transport.transcript.messages())


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
    refused_from_client_1(rf"round 1, phase '{phase}', client:\d: ", protocol, private, phase, lambda _: replayed, 1)


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
@pytest.mark.parametrize(("protocol", "key"), [(Pairwise(), 0), (DoubleMask(2), 0), (DoubleMask(2), 1)])
def test_a_signed_key_that_is_no_point_is_refused(curve, protocol, key):
    """Of the two keys under double masks the first makes masks, the second seals shares."""
    private, width = states(3), WIDTH[curve]
    gathering = Gathering(tuple(private), 0, 0, curve)

    def bad(send):
        content = to_bytes(send.tensors["keys"])
        content = content[: key * width] + BAD_POINTS[curve][0] + content[(key + 1) * width :]
        return Send(send.phase, directory.publish(gathering, private["client:1"], content))

    match = f"of round 0, phase '(keys|shares)', client:1 is no usable point of {curve}"
    refused_from_client_1(match, protocol, private, "keys", bad, curve=curve)


def test_a_deal_is_not_taken_for_a_sum():
    deal = in_phase("unmask", lambda reply: Deal("unmask", {f"client:{i}": {} for i in range(3)}))
    refused("phase 'masked', server: message holds", DoubleMask(2), states(3), CODES, RING, tamper=deal)
