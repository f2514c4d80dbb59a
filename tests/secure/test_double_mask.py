import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.graph import Assumptions
from gradwire.secure.identity import Gathering
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import Deal, InProcess, Send
from gradwire.wire.transport import drive
from tests.secure.sums import contributing, in_phase, random_codes, refused, run_round, server_half, states

PHASES = ("keys", "shares", "masked", "unmask")


@st.composite
def schedules(draw):
    """Clients, a threshold, and who drops out before which phase."""
    clients = draw(st.integers(2, 7))
    threshold = draw(st.integers(clients // 2 + 1, clients))
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
    summed = [v for i, v in enumerate(vectors) if drops.get(f"client:{i}", "unmask") == "unmask"]
    total, _, _ = run_round(DoubleMask(threshold), states(clients), vectors, ring, drops=drops)
    assert (total.codes == np.sum([v.astype(object) for v in summed], axis=0)).all()
    assert total.contributors == len(summed)


@pytest.mark.slow
@pytest.mark.parametrize("curve", ["x25519", "brainpoolP256r1"])
def test_a_sparse_graph_of_many_clients_gives_the_same_sum(curve):
    n = 60
    ring, assumed = Ring(32, n), Assumptions(corrupted=0.0, dropping=0.1, secrecy=20, completion=10)
    protocol = DoubleMask(40, sparse=True, assumed=assumed)
    vectors = random_codes(ring, 20, 0)
    drops = {"client:3": "masked", "client:20": "shares", "client:50": "unmask", "client:51": "keys"}
    total, _, transport = run_round(protocol, states(n), vectors, ring, drops=drops, curve=curve)
    summed = [v.astype(object) for i, v in enumerate(vectors) if i not in (3, 20, 51)]
    assert (total.codes == np.sum(summed, axis=0)).all()
    dealt = next(m for m in transport.transcript.messages() if m.phase == "shares" and m.sender == "client:0")
    assert len(dealt.tensors["places"]) < n - 2


@pytest.mark.slow
@given(st.integers(2, 200), st.sampled_from(BITS), st.data())
@settings(max_examples=8)
def test_a_sparse_graph_of_any_size_gives_the_sum_or_says_why_not(clients, bits, data):
    clients = min(clients, 2 ** (bits - 1))
    ring, assumed = Ring(bits, clients), Assumptions(corrupted=0.0, dropping=0.1, secrecy=4, completion=4)
    most = data.draw(st.integers(0, (clients - 1) // 5))
    gone = data.draw(st.dictionaries(st.integers(0, clients - 1), st.sampled_from(PHASES), max_size=most))
    drops = {f"client:{i}": phase for i, phase in gone.items()}
    vectors, transport = random_codes(ring, 20, clients), InProcess()
    protocol = DoubleMask(clients // 2 + 1, sparse=True, assumed=assumed)
    try:
        total, _, _ = run_round(protocol, states(clients), vectors, ring, drops=drops, transport=transport)
    except TooFewError:
        if not drops:
            raise
        assert not any("sum" in message.tensors for message in transport.transcript.messages())
        return
    summed = [v.astype(object) for i, v in enumerate(vectors) if gone.get(i, "unmask") == "unmask"]
    assert (total.codes == np.sum(summed, axis=0)).all()


def zeros(n):
    return [np.zeros(4, np.uint8)] * n


def test_shares_of_another_round_are_refused():
    private, kept = states(3), {}

    def keep(reply):
        kept.update(reply.tensors)
        return reply

    run_round(DoubleMask(2), private, zeros(3), Ring(8, 3), tamper=in_phase("shares", keep))
    replay = in_phase("shares", lambda _: Deal("shares", kept))
    match = "phase 'shares', client:1: its share cannot be opened: sealed in another round"
    refused(match, DoubleMask(2), private, zeros(3), Ring(8, 3), round=1, tamper=replay)


def test_shares_for_somebody_else_are_refused():
    def crossed(reply):
        hands = dict(reply.tensors)
        hands["client:0"], hands["client:1"] = (
            {**hands["client:0"], "sealed": hands["client:1"]["sealed"]},
            {**hands["client:1"], "sealed": hands["client:0"]["sealed"]},
        )
        return Deal("shares", hands)

    refused("cannot be opened", DoubleMask(2), states(3), zeros(3), Ring(8, 3), tamper=in_phase("shares", crossed))


def test_no_share_is_revealed_to_a_server_that_says_too_few_are_left():
    alone = in_phase("masked", lambda reply: Send("masked", {"places": torch.tensor([0], dtype=torch.int32)}))
    match = "client:0: 1 clients are left, threshold is 2; it reveals no share"
    refused(match, DoubleMask(2), states(3), zeros(3), Ring(8, 3), tamper=alone)
    others = in_phase("masked", lambda reply: Send("masked", {"places": torch.tensor([1, 2], dtype=torch.int32)}))
    match = "client:0: the server says that its codes did not arrive; it reveals no share"
    refused(match, DoubleMask(2), states(3), zeros(3), Ring(8, 3), tamper=others)


def test_a_wrong_share_is_found_out():
    def wrong(half):
        send = next(half)
        while True:
            if send.phase == "unmask":
                send.tensors["shares"][1] ^= 1
            try:
                send = half.send((yield send))
            except StopIteration as stop:
                return stop.value

    private, ring = states(3), Ring(8, 3)
    gathering = Gathering(tuple(private), 0, 0)
    halves = {p: contributing(DoubleMask(2), gathering, s, {}, np.zeros(4, np.uint8), ring) for p, s in private.items()}
    halves["client:0"] = wrong(halves["client:0"])
    with pytest.raises(WireError, match="phase 'unmask', client:1: a share of its secret is wrong; the round ends"):
        drive(InProcess(), halves, server_half(DoubleMask(2), gathering, {}, ring, 4), 0)


@pytest.mark.parametrize("threshold", [2, 6])
def test_thresholds_that_cannot_be(threshold):
    with pytest.raises(GradwireError, match=rf"threshold is {threshold}; of 5 clients it must be 3 to 5"):
        run_round(DoubleMask(threshold), states(5), zeros(5), Ring(8, 5))


def test_masks_serve_one_sum():
    private, ring = states(2), Ring(8, 2)
    gathering = Gathering(tuple(private), 0, 0)

    def twice(state):
        member = yield from DoubleMask(2).join(gathering, state, {})
        yield from member.add(np.zeros(4, np.uint8), ring, "masked")
        yield from member.add(np.zeros(4, np.uint8), ring, "again")

    halves = {party: twice(state) for party, state in private.items()}
    with pytest.raises(
        GradwireError, match="masks of this round have served 'masked'; they must not serve 'again' too"
    ):
        drive(InProcess(), halves, server_half(DoubleMask(2), gathering, {}, ring, 4), 0)
