import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError, WireError
from gradwire.secure.identity import Gathering
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import Send
from tests.secure.sums import play, random_codes, states
from tests.secure.test_masks import p_uniform

ring8 = Ring(8, 3)


def plain(vectors):
    return np.sum([v.astype(object) for v in vectors], axis=0)


@given(st.integers(2, 8), st.sampled_from(BITS), st.sampled_from(["x25519", "brainpoolP256r1"]), st.integers(0, 99))
@settings(max_examples=25)
def test_the_sum_is_exact(clients, bits, curve, seed):
    ring = Ring(bits, clients)
    vectors = random_codes(ring, 50, seed)
    total, _, _ = play(Pairwise(), states(clients), vectors, ring, curve=curve)
    assert (total.codes == plain(vectors)).all()
    assert total.contributors == clients


@pytest.mark.slow
@pytest.mark.parametrize("clients", [64, 200])
@pytest.mark.parametrize("bits", [16, 32])
def test_the_sum_is_exact_for_many_clients(clients, bits):
    ring = Ring(bits, clients)
    vectors = random_codes(ring, 20, 0)
    total, _, _ = play(Pairwise(), states(clients), vectors, ring)
    assert (total.codes == plain(vectors)).all()


@pytest.mark.parametrize("bits", BITS)
def test_a_masked_message_is_uniform_and_no_two_runs_share_a_mask(bits):
    ring = Ring(bits, 2)
    nothing = [np.zeros(1_000_000, ring.dtype)] * 2
    sent = []
    for _ in range(2):
        _, _, transport = play(Pairwise(), states(2), nothing, ring)
        masked = [m.tensors["masked"].numpy() for m in transport.transcript.messages() if "masked" in m.tensors]
        assert p_uniform(masked[0]) > 1e-3
        sent.append(masked[0])
    assert p_uniform(sent[0] - sent[1]) > 1e-3


def test_keys_are_agreed_on_once_and_seeds_are_fresh_each_round():
    private, vectors = states(3), [np.zeros(200, np.uint8)] * 3
    public, masks = {}, []
    for round in range(3):
        _, private, transport = play(Pairwise(), private, vectors, ring8, round=round, public=public)
        public = Pairwise().public(Gathering(tuple(private), round, 0))
        phases = [m.phase for m in transport.transcript.messages() if m.sender == "client:0"]
        assert phases == (["keys", "masked"] if round == 0 else ["masked"])
        masks.append(next(m.tensors["masked"] for m in transport.transcript.messages() if "masked" in m.tensors))
    assert not any(torch.equal(a, b) for a, b in ((masks[0], masks[1]), (masks[1], masks[2])))


def agreed(rounds=1):
    private, vectors, public = states(3), [np.full(4, i, np.uint8) for i in range(3)], {}
    for round in range(rounds):
        _, private, _ = play(Pairwise(), private, vectors, ring8, round=round, public=public)
        public = Pairwise().public(Gathering(tuple(private), round, 0))
    return private, vectors, public


def test_a_client_that_missed_rounds_catches_up():
    private, vectors, public = agreed()
    total, _, _ = play(Pairwise(), private, vectors, ring8, round=7, public=public)
    assert total.codes.tolist() == [3] * 4


def test_a_round_cannot_be_played_twice():
    private, vectors, public = agreed(2)
    with pytest.raises(GradwireError, match="client:0 has played round 1; masks of round 1 must not serve twice"):
        play(Pairwise(), private, vectors, ring8, round=1, public=public)


def test_a_later_state_does_not_give_earlier_seeds():
    """The chain has moved on: rewinding its counter gives other seeds than those that were used."""
    private, vectors, public = agreed(2)
    rewound = {party: {**state, "turn": torch.tensor(0)} for party, state in private.items()}
    _, _, first = play(Pairwise(), rewound, vectors, ring8, round=0, public=public)
    _, before, _ = play(Pairwise(), states(3), vectors, ring8)
    assert not torch.equal(before["client:0"]["chain"], private["client:0"]["chain"])
    assert all(m.phase == "masked" for m in first.transcript.messages())


def test_other_clients_agree_anew():
    private, vectors, public = agreed()
    fewer = {party: private[party] for party in ("client:0", "client:2")}
    total, _, transport = play(Pairwise(), fewer, vectors[:2], ring8, round=1, public=public)
    assert total.codes.tolist() == [1] * 4
    assert next(transport.transcript.messages()).phase == "keys"


@pytest.mark.parametrize("phase", ["keys", "masked"])
def test_without_all_clients_there_is_no_sum(phase):
    vectors = [np.zeros(4, np.uint8)] * 3
    with pytest.raises(WireError, match=f"round 0, phase '{phase}', client:1: is missing, and pairwise masks cancel"):
        play(Pairwise(), states(3), vectors, ring8, drops={"client:1": phase})


def rewrite(phase, change):
    """A man in the middle that rewrites the server's reply in one phase."""

    def tamper(server):
        reply = next(server)
        while True:
            uploads = yield reply
            try:
                reply = server.send(uploads)
            except StopIteration as stop:
                return stop.value
            if reply.phase == phase:
                reply = Send(reply.phase, change({name: t.clone() for name, t in reply.tensors.items()}))

    return tamper


def test_a_server_in_the_middle_is_found_out():
    def other_key(tensors):
        tensors["keys"][1, 0] ^= 1
        return tensors

    with pytest.raises(WireError, match="round 0, phase 'keys', client:1: its signature does not hold"):
        play(Pairwise(), states(3), [np.zeros(4, np.uint8)] * 3, ring8, tamper=rewrite("keys", other_key))


def test_keys_of_another_round_or_another_client_are_refused():
    private, kept = states(3), {}
    vectors = [np.zeros(4, np.uint8)] * 3

    def keep(tensors):
        kept.update(tensors)
        return tensors

    play(Pairwise(), private, vectors, ring8, tamper=rewrite("keys", keep))
    with pytest.raises(
        WireError, match="phase 'keys', client:0: its signature does not hold: not its keys, or keys of"
    ):
        play(Pairwise(), private, vectors, ring8, round=1, tamper=rewrite("keys", lambda _: kept))

    def swapped(tensors):
        return {name: t[[1, 0, 2]] if name != "places" else t for name, t in tensors.items()}

    with pytest.raises(WireError, match="phase 'keys', client:0: its signature does not hold"):
        play(Pairwise(), private, vectors, ring8, tamper=rewrite("keys", swapped))


def test_a_client_whose_key_is_withheld_is_named():
    def without_the_last(tensors):
        return {name: t[:2] for name, t in tensors.items()}

    with pytest.raises(WireError, match="client:2: its key is not among those that the server passed on"):
        play(Pairwise(), states(3), [np.zeros(4, np.uint8)] * 3, ring8, tamper=rewrite("keys", without_the_last))


def test_what_does_not_fit_is_refused_and_named():
    vectors = [np.zeros(4, np.uint8), np.zeros(4, np.uint8), np.zeros(5, np.uint8)]
    with pytest.raises(WireError, match=r"masked vector of round 0, phase 'masked', client:2 is uint8 of shape \(5,\)"):
        play(Pairwise(), states(3), vectors, ring8)
    with pytest.raises(GradwireError, match="a secure sum needs at least 2 clients; round 0 has 1"):
        play(Pairwise(), states(1), vectors[:1], ring8)
    strangers = {**states(2), "client:2": states(3)["client:2"]}
    with pytest.raises(GradwireError, match="client:0 knows no verification key of client:2"):
        play(Pairwise(), strangers, vectors, ring8)
