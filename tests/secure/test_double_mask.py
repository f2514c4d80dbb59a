import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError, TooFewError
from gradwire.secure import shares
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.graph import Assumptions
from gradwire.secure.identity import Gathering
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import ClientSession, Deal, InProcess, Send, ServerSession
from gradwire.wire.transport import drive
from tests.secure.sums import contributing, in_phase, least, random_codes, refused, run_round, server_half, states

PHASES = ("keys", "shares", "ready", "masked", "survivors", "unmask")
IN = ("survivors", "unmask")
"""Who vanishes before these is in the sum."""


@st.composite
def schedules(draw):
    """Clients, a threshold, and who drops out before which phase."""
    clients = draw(st.integers(2, 7))
    threshold = draw(st.integers(least(clients), clients))
    gone = draw(st.dictionaries(st.integers(0, clients - 1), st.sampled_from(PHASES), max_size=clients - 1))
    return clients, threshold, {f"client:{i}": phase for i, phase in gone.items()}


@given(schedules(), st.sampled_from(BITS), st.integers(0, 99))
@settings(max_examples=60)
def test_enough_survivors_give_exactly_their_sum_and_fewer_give_none(schedule, bits, seed):
    clients, threshold, drops = schedule
    ring = Ring(bits, clients)
    vectors = random_codes(ring, 20, seed)
    left = [i for i in range(clients) if f"client:{i}" not in drops]
    if len(left) < threshold:
        match = rf"\d of {clients} clients are left, threshold is {threshold}; the round en"
        refused(match, DoubleMask(threshold), states(clients), vectors, ring, drops=drops)
        return
    # Codes that arrived are in the sum, even if their sender was gone before the unmasking.
    summed = [v for i, v in enumerate(vectors) if drops.get(f"client:{i}", IN[0]) in IN]
    total, _, _ = run_round(DoubleMask(threshold), states(clients), vectors, ring, drops=drops)
    assert (total.codes == np.sum([v.astype(object) for v in summed], axis=0)).all()
    assert total.contributors == len(summed)


@pytest.mark.slow
@pytest.mark.parametrize("curve", ["x25519", "brainpoolP256r1"])
def test_a_sparse_graph_of_many_clients_gives_the_same_sum(curve):
    n = 60
    ring, assumed = Ring(32, n), Assumptions(dropping=0.1, secrecy=20, completion=10)
    protocol = DoubleMask(40, sparse=True, assumed=assumed, colluders=2)
    vectors = random_codes(ring, 20, 0)
    drops = {"client:3": "masked", "client:20": "shares", "client:50": "unmask", "client:51": "choose"}
    total, _, transport = run_round(protocol, states(n), vectors, ring, drops=drops, curve=curve)
    summed = [v.astype(object) for i, v in enumerate(vectors) if i not in (3, 20, 51)]
    assert (total.codes == np.sum(summed, axis=0)).all()
    dealt = next(m for m in transport.transcript.messages() if m.phase == "shares" and m.sender == "client:0")
    assert len(dealt.tensors["places"]) < n - 2


@pytest.mark.slow
@given(st.integers(2, 200), st.sampled_from(BITS), st.data())
@settings(max_examples=5)
def test_a_sparse_graph_of_any_size_gives_the_sum_or_says_why_not(clients, bits, data):
    clients = min(clients, 2 ** (bits - 1))
    ring, assumed = Ring(bits, clients), Assumptions(dropping=0.1, secrecy=4, completion=4)
    most = data.draw(st.integers(0, (clients - 1) // 5))
    gone = data.draw(st.dictionaries(st.integers(0, clients - 1), st.sampled_from(PHASES), max_size=most))
    drops = {f"client:{i}": phase for i, phase in gone.items()}
    vectors, transport = random_codes(ring, 20, clients), InProcess()
    protocol = DoubleMask(clients // 2 + 1, sparse=True, assumed=assumed, colluders=0)
    try:
        total, _, _ = run_round(protocol, states(clients), vectors, ring, drops=drops, transport=transport)
    except TooFewError:
        if not drops:
            raise
        assert not any("sum" in message.tensors for message in transport.transcript.messages())
        return
    summed = [v.astype(object) for i, v in enumerate(vectors) if gone.get(i, IN[0]) in IN]
    assert (total.codes == np.sum(summed, axis=0)).all()


def zeros(n):
    return [np.zeros(4, np.uint8)] * n


def test_shares_of_another_round_are_refused():
    private, kept = states(3), {}

    def keep(reply):
        kept.update(reply.tensors)
        return reply

    run_round(DoubleMask(2, colluders=0), private, zeros(3), Ring(8, 3), tamper=in_phase("shares", keep))
    replay = in_phase("shares", lambda _: Deal("shares", kept))
    match = r"phase 'ready', client:1: 2 of 3 holders find its keys or its shares wrong"
    refused(match, DoubleMask(2, colluders=0), private, zeros(3), Ring(8, 3), round=1, tamper=replay)


def test_shares_for_somebody_else_are_refused():
    def crossed(reply):
        hands = dict(reply.tensors)
        hands["client:0"], hands["client:1"] = (
            {**hands["client:0"], "sealed": hands["client:1"]["sealed"]},
            {**hands["client:1"], "sealed": hands["client:0"]["sealed"]},
        )
        return Deal("shares", hands)

    match = "client:2: 2 of 3 holders find its keys or its shares wrong"
    refused(match, DoubleMask(2, colluders=0), states(3), zeros(3), Ring(8, 3), tamper=in_phase("shares", crossed))


def test_no_share_is_revealed_to_a_server_that_says_too_few_are_left():
    alone = in_phase("masked", lambda reply: Send("masked", {"places": torch.tensor([0], dtype=torch.int32)}))
    match = "client:0: 1 clients are left, threshold is 2; it reveals no share"
    refused(match, DoubleMask(2, colluders=0), states(3), zeros(3), Ring(8, 3), tamper=alone)
    others = in_phase("masked", lambda reply: Send("masked", {"places": torch.tensor([1, 2], dtype=torch.int32)}))
    match = "client:0: the server says that its codes did not arrive; it reveals no share"
    refused(match, DoubleMask(2, colluders=0), states(3), zeros(3), Ring(8, 3), tamper=others)


def test_no_share_is_revealed_unless_enough_have_signed_what_was_told():
    def unsigned(reply):
        none = {"places": torch.empty(0, dtype=torch.int32), "signatures": torch.empty(0, 64, dtype=torch.uint8)}
        return Deal(reply.phase, dict.fromkeys(reply.tensors, none))

    match = "client:0: 1 clients have signed what this one was told, 2 must; no share is revealed"
    refused(match, DoubleMask(2, colluders=0), states(3), zeros(3), Ring(8, 3), tamper=in_phase("survivors", unsigned))


def lying(phase, change):
    """A client's half whose message in one phase goes through `change`."""

    def through(half):
        send = next(half)
        while True:
            if send.phase == phase:
                change(send.tensors)
            try:
                send = half.send((yield send))
            except StopIteration as stop:
                return stop.value

    return through


def garbage(name):
    return lambda tensors: tensors[name].random_(0, 256)


@pytest.mark.parametrize(
    ("phase", "change", "why"),
    [
        ("keys", garbage("signature"), "phase 'ready', client:1: 4 of 5 holders find its keys or its shares wrong"),
        ("shares", garbage("sealed"), "phase 'ready', client:1: 4 of 5 holders find its keys or its shares wrong"),
        ("shares", garbage("digests"), "phase 'ready', client:1: 4 of 5 holders find its keys or its shares wrong"),
        ("masked", lambda t: t["masked"].resize_(3), "masked vector of round 0, phase 'masked', client:1 is uint8"),
        ("unmask", garbage("shares"), r"the share of client:\d that it reveals is not the one it was dealt"),
        ("unmask", lambda t: t["shares"].resize_(2, 16), "unmask', client:1: shares have shape"),
    ],
)
def test_a_client_that_lies_is_left_out_by_name_and_the_sum_is_that_of_the_others(phase, change, why):
    private, ring, n, protocol = states(5), Ring(8, 5), 5, DoubleMask(4)
    gathering = Gathering(tuple(private), 0, 0, digest=b"said")
    vectors = random_codes(ring, 20, 0)
    halves = {
        party: contributing(protocol, gathering, state, {}, codes, ring)
        for (party, state), codes in zip(private.items(), vectors, strict=True)
    }
    halves["client:1"] = lying(phase, change)(halves["client:1"])
    sessions = {party: ClientSession(half, party, 0) for party, half in halves.items()}
    server = ServerSession(server_half(protocol, gathering, {}, ring, 20), private, 0)
    InProcess().exchange(sessions, server)
    assert list(server.refused) == ["client:1"]
    assert re.search(why, server.refused["client:1"])
    inside = [v for i, v in enumerate(vectors) if i != 1 or phase == "unmask"]
    assert server.result.contributors == len(inside) == n - (phase != "unmask")
    assert (server.result.codes == np.sum([v.astype(object) for v in inside], axis=0)).all()


def test_shares_that_do_not_give_the_secret_end_the_round_and_name_their_dealer(monkeypatch):
    def dealing_others(half):
        send = next(half)
        while True:
            reply = yield send
            with monkeypatch.context() as patch:
                if send.phase == "keys":
                    patch.setattr(shares, "split", lambda secret, t, holders: [bytes(32)] * holders)
                try:
                    send = half.send(reply)
                except StopIteration as stop:
                    return stop.value

    private, ring, protocol = states(5), Ring(8, 5), DoubleMask(4)
    gathering = Gathering(tuple(private), 0, 0, digest=b"said")
    halves = {p: contributing(protocol, gathering, s, {}, np.zeros(4, np.uint8), ring) for p, s in private.items()}
    halves["client:0"] = dealing_others(halves["client:0"])
    match = "phase 'unmask', client:0: the shares that it dealt do not give its secret"
    with pytest.raises(TooFewError, match=match):
        drive(InProcess(), halves, server_half(protocol, gathering, {}, ring, 4), 0)


@pytest.mark.parametrize(("clients", "colluders", "least"), [(5, 0, 3), (5, 1, 4), (4, 1, 3), (9, 3, 7), (100, 33, 67)])
def test_thresholds_that_cannot_be(clients, colluders, least):
    """2t > n + c: so many of n clients cannot be shown two lists of survivors, though c of them sign both."""
    gathering = Gathering(tuple(map(str, range(clients))), 0, 0)
    for sparse in (False, True):
        assert DoubleMask(least, sparse, colluders=colluders).server(gathering).rules.survivors == least
        for threshold in (least - 1, clients + 1):
            match = rf"threshold is {threshold}; of {clients} clients it must be {least} to {clients}"
            with pytest.raises(GradwireError, match=match):
                DoubleMask(threshold, sparse, colluders=colluders).server(gathering)


def test_masks_serve_one_sum():
    private, ring = states(2), Ring(8, 2)
    gathering = Gathering(tuple(private), 0, 0)

    def twice(state):
        member = yield from DoubleMask(2, colluders=0).join(gathering, state, {})
        yield from member.add(np.zeros(4, np.uint8), ring, "masked")
        yield from member.add(np.zeros(4, np.uint8), ring, "again")

    halves = {party: twice(state) for party, state in private.items()}
    with pytest.raises(
        GradwireError, match="masks of this round have served 'masked'; they must not serve 'again' too"
    ):
        drive(InProcess(), halves, server_half(DoubleMask(2, colluders=0), gathering, {}, ring, 4), 0)
