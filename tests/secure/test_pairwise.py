import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import InsecureWarning, insecure_seed
from gradwire.secure.pairwise import Pairwise, PairwiseMember
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import Deal, Send
from tests.secure.sums import in_phase, random_codes, refused, run_round, states
from tests.secure.test_masks import p_uniform

ring8 = Ring(8, 3)


def plain(vectors):
    return np.sum([v.astype(object) for v in vectors], axis=0)


@given(st.integers(2, 8), st.sampled_from(BITS), st.sampled_from(["x25519", "brainpoolP256r1"]), st.integers(0, 99))
@settings(max_examples=25)
def test_the_sum_is_exact(clients, bits, curve, seed):
    ring = Ring(bits, clients)
    vectors = random_codes(ring, 50, seed)
    total, _, _ = run_round(Pairwise(), states(clients), vectors, ring, curve=curve)
    assert (total.codes == plain(vectors)).all()
    assert total.contributors == clients


@pytest.mark.slow
@pytest.mark.parametrize(("clients", "bits"), [(64, 16), (128, 8), (100, 32)])
def test_the_sum_is_exact_for_many_clients(clients, bits):
    ring = Ring(bits, clients)
    vectors = random_codes(ring, 20, 0)
    total, _, _ = run_round(Pairwise(), states(clients), vectors, ring)
    assert (total.codes == plain(vectors)).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("protocol", [Pairwise(), DoubleMask(2, colluders=0)])
def test_a_masked_message_is_uniform_whatever_it_hides(bits, protocol):
    ring = Ring(bits, 2)
    sent = []
    for seed, code in ((0, 0), (1, ring.ceiling)):
        with pytest.warns(InsecureWarning), insecure_seed(seed):
            sent.append(masked(protocol, ring, code))
        assert p_uniform(sent[-1]) > 1e-3
    assert p_uniform(sent[0] - sent[1]) > 1e-3


@pytest.mark.parametrize("protocol", [Pairwise(), DoubleMask(2, colluders=0)])
def test_no_two_runs_share_a_mask(protocol):
    ring = Ring(16, 2)
    first, second = masked(protocol, ring, 0), masked(protocol, ring, 0)
    assert (first == second).mean() < 2**-16 + 1e-4
    assert abs(np.corrcoef(first, second)[0, 1]) < 6e-3


def masked(protocol, ring, code):
    """What the first of two clients sends that both hold a million times this code."""
    _, _, transport = run_round(protocol, states(2), [np.full(1_000_000, code, ring.dtype)] * 2, ring)
    messages = transport.transcript.messages()
    return next(m.tensors["masked"].numpy() for m in messages if "masked" in m.tensors)


@pytest.mark.parametrize("digest", [None, b"said"])
def test_no_two_phases_share_a_mask(digest):
    gathering = Gathering(("client:0", "client:1"), 0, 0, digest=digest)
    member = PairwiseMember(gathering, 0, {}, {1: bytes(32)})
    masks = [next(member.contribute(np.zeros(8, "<u4"), phase)).tensors["masked"] for phase in ("union", "values")]
    assert not torch.equal(*masks)


def test_keys_are_agreed_on_once_and_seeds_are_fresh_each_round():
    private, vectors = states(3), [np.zeros(200, np.uint8)] * 3
    public, masks = {}, []
    for round in range(3):
        _, private, transport = run_round(Pairwise(), private, vectors, ring8, round=round, public=public)
        public = Pairwise().public(Gathering(tuple(private), round, 0))
        phases = [m.phase for m in transport.transcript.messages() if m.sender == "client:0"]
        assert phases == (["keys", "masked"] if round == 0 else ["masked"])
        masks.append(next(m.tensors["masked"] for m in transport.transcript.messages() if "masked" in m.tensors))
    assert not any(torch.equal(a, b) for a, b in ((masks[0], masks[1]), (masks[1], masks[2])))


def agreed(rounds=1):
    private, vectors, public = states(3), [np.full(4, i, np.uint8) for i in range(3)], {}
    for round in range(rounds):
        _, private, _ = run_round(Pairwise(), private, vectors, ring8, round=round, public=public)
        public = Pairwise().public(Gathering(tuple(private), round, 0))
    return private, vectors, public


def test_a_client_that_missed_rounds_catches_up():
    private, vectors, public = agreed()
    total, _, _ = run_round(Pairwise(), private, vectors, ring8, round=7, public=public)
    assert total.codes.tolist() == [3] * 4


def test_nobody_takes_part_in_a_round_twice():
    private, vectors, public = agreed(2)
    with pytest.raises(
        GradwireError, match="client:0 has taken part in round 1; masks of round 1 must not serve twice"
    ):
        run_round(Pairwise(), private, vectors, ring8, round=1, public=public)


def test_a_later_state_does_not_give_earlier_masks():
    """Who steals the states after two rounds and sets their counters back does not get the masks of either."""
    private, vectors, public, used = states(3), [np.zeros(50, np.uint8)] * 3, {}, []
    for round in range(2):
        _, private, transport = run_round(Pairwise(), private, vectors, ring8, round=round, public=public)
        public = Pairwise().public(Gathering(tuple(private), round, 0))
        used += [m.tensors["masked"] for m in transport.transcript.messages() if "masked" in m.tensors]
    for turn, round in ((0, 0), (1, 1), (0, 1)):
        stolen = {party: {**state, "turn": torch.tensor(turn)} for party, state in private.items()}
        _, _, transport = run_round(Pairwise(), stolen, vectors, ring8, round=round, public=public)
        rebuilt = [m.tensors["masked"] for m in transport.transcript.messages() if "masked" in m.tensors]
        assert len(rebuilt) == 3
        assert not any(torch.equal(mask, other) for mask in rebuilt for other in used)


def test_other_clients_agree_anew():
    private, vectors, public = agreed()
    fewer = {party: private[party] for party in ("client:0", "client:2")}
    total, _, transport = run_round(Pairwise(), fewer, vectors[:2], ring8, round=1, public=public)
    assert total.codes.tolist() == [1] * 4
    assert next(transport.transcript.messages()).phase == "keys"


@pytest.mark.parametrize("phase", ["keys", "masked"])
def test_without_all_clients_there_is_no_sum(phase):
    vectors = [np.zeros(4, np.uint8)] * 3
    match = f"round 0, phase '{phase}', client:1: is missing, and pairwise masks cancel"
    refused(match, Pairwise(), states(3), vectors, ring8, drops={"client:1": phase})


@pytest.mark.parametrize("protocol", [Pairwise(), DoubleMask(3)])
def test_a_server_in_the_middle_is_found_out(protocol):
    def other_key(reply):
        hands = reply.tensors if isinstance(reply, Deal) else {"everybody": reply.tensors}
        for tensors in hands.values():
            tensors["keys"][tensors["places"] == 1] ^= 1
        return reply

    match = "round 0, phase '(keys|ready)', client:1: (its signature does not hold|2 of 3 holders find its keys)"
    refused(match, protocol, states(3), [np.zeros(4, np.uint8)] * 3, ring8, tamper=in_phase("keys", other_key))


def test_keys_of_another_round_or_another_client_are_refused():
    private, kept = states(3), []
    vectors = [np.zeros(4, np.uint8)] * 3

    def keep(reply):
        kept.append(reply)
        return reply

    run_round(Pairwise(), private, vectors, ring8, tamper=in_phase("keys", keep))
    match = "phase 'keys', client:0: its signature does not hold: not its keys, or keys of"
    replay = in_phase("keys", lambda _: kept[0])
    refused(match, Pairwise(), private, vectors, ring8, round=1, tamper=replay)

    def swapped(reply):
        return Send("keys", {name: t[[1, 0, 2]] if name != "places" else t for name, t in reply.tensors.items()})

    match = "phase 'keys', client:0: its signature does not hold"
    refused(match, Pairwise(), private, vectors, ring8, tamper=in_phase("keys", swapped))


def test_a_client_whose_key_is_withheld_is_named():
    withheld = in_phase("keys", lambda reply: Send("keys", {name: t[:2] for name, t in reply.tensors.items()}))
    match = "client:2: its key is not among those that the server passed on"
    refused(match, Pairwise(), states(3), [np.zeros(4, np.uint8)] * 3, ring8, tamper=withheld)


@pytest.mark.parametrize("protocol", [Pairwise(), DoubleMask(3)])
def test_a_vector_that_does_not_fit_the_mask_is_refused(protocol):
    vectors = [np.zeros(4, np.uint8), np.zeros(4, np.uint8), np.zeros(5, np.uint8)]
    match = r"masked vector of round 0, phase 'masked', client:2 is uint8 of shape \(5,\); it must be uint8 of"
    refused(match, protocol, states(3), vectors, ring8)
    vectors[2] = np.zeros(4, np.uint16)
    refused("phase 'masked', client:2 is uint16", protocol, states(3), vectors, ring8)


def test_clients_that_cannot_be():
    vectors = [np.zeros(4, np.uint8)] * 3
    refused("a secure sum needs at least 2 clients; round 0 has 1", Pairwise(), states(1), vectors[:1], ring8)
    strangers = {**states(2), "client:2": states(3)["client:2"]}
    refused("client:0 knows no verification key of client:2", Pairwise(), strangers, vectors, ring8)
