import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import WireError
from gradwire.schemes import Layout, parse
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Signs
from gradwire.schemes.signsgd import coins, signs
from tests.schemes.rounds import SHAPES, Cluster, flat, random_update

SIZE = Layout(SHAPES).size


@given(st.integers(0, 1000), st.sampled_from([1, 3, 5]))
def test_the_majority_decides(seed, clients):
    updates = [random_update(seed + i) for i in range(clients)]
    aggregate, _ = Cluster.of("signsgd", updates).run(updates)
    assert torch.equal(flat(aggregate), sum(flat(u).sign() for u in updates).sign())


def test_a_tie_is_decided_by_the_public_coin():
    updates = [random_update(0), {name: -tensor for name, tensor in random_update(0).items()}]
    aggregate, observation = Cluster.of("signsgd", updates).run(updates)
    assert torch.equal(flat(aggregate), coins(observation.round))
    assert 0.4 < float((flat(aggregate) > 0).float().mean()) < 0.6


@pytest.mark.parametrize("clients", [127, 128, 300])
def test_many_votes_are_counted_without_overflow(clients):
    for against in (0, clients // 2 - 1, clients // 2 + 1, clients):
        updates = [{"w": torch.full((9,), -1.0 if i < against else 1.0)} for i in range(clients)]
        aggregate, _ = Cluster.of("signsgd", updates).run(updates)
        assert torch.equal(aggregate["w"], torch.full((9,), -1.0 if 2 * against > clients else 1.0))


def test_one_bit_an_entry_up_and_down():
    updates = [random_update(0), random_update(1)]
    _, observation = Cluster.of("signsgd", updates).run(updates)
    for message in (observation.uploads["signs"], observation.replies["signs"]):
        assert sum(tensor.nbytes for tensor in message.values()) == -(-SIZE // 8)


def test_with_error_feedback_one_bit_an_entry_and_a_scale_a_tensor():
    updates = [random_update(0)]
    _, observation = Cluster.of("signsgd:error_feedback=true", updates).run(updates)
    assert sum(tensor.nbytes for tensor in observation.uploads["signs"].values()) == -(-SIZE // 8) + 4 * len(SHAPES)


@given(st.integers(0, 1000), st.integers(1, 3))
def test_ef_mean_update_is_aggregate_plus_mean_error(seed, clients):
    cluster = Cluster.of("signsgd:error_feedback=true", [random_update(seed)] * clients)
    before = [torch.zeros(SIZE)] * clients
    for step in range(3):
        updates = [random_update(seed + 10 * step + i) for i in range(clients)]
        aggregate, _ = cluster.run(updates)
        after = [state["residual"] for state in cluster.private.values()]
        mean_delta = sum(flat(u) + e for u, e in zip(updates, before, strict=True)) / clients
        torch.testing.assert_close(flat(aggregate) + sum(after) / clients, mean_delta, atol=1e-5, rtol=1e-5)
        before = after


@given(st.integers(0, 1000))
def test_ef_is_a_contraction(seed):
    """Karimireddy et al. 2019, lemma 8: ‖C(v) − v‖² = (1 − ‖v‖₁²/(d·‖v‖²))·‖v‖², for each tensor."""
    update = random_update(seed)
    cluster = Cluster.of("signsgd:error_feedback=true", [update])
    aggregate, _ = cluster.run([update])
    for name, v in update.items():
        density = v.abs().sum() ** 2 / (v.numel() * v.square().sum())
        torch.testing.assert_close((aggregate[name] - v).square().sum(), (1 - density) * v.square().sum())


@pytest.mark.parametrize("spec", ["signsgd", "signsgd:error_feedback=true"])
def test_the_truth_violates_no_sign_whatever_its_scale(spec):
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of(spec, updates)
    _, observation = cluster.run(updates)
    for name, (term,) in cluster.scheme.measure(observation).items():
        truth = updates[0][name][None]
        assert isinstance(term, Signs)
        assert term.violation(Full(1e-6 * truth)).tolist() == [0]
        assert term.violation(Full(torch.zeros_like(truth))).tolist() == [0]
        assert term.violation(Full(-truth)).tolist() == pytest.approx([1])
        torch.testing.assert_close(
            term.violation(Full(updates[1][name][None])), term.violation(Full(9 * updates[1][name][None]))
        )


@pytest.mark.parametrize("clients", [2, 3, 4])
def test_what_a_fellow_says_it_knows_is_the_others_majority(clients):
    updates = [random_update(i) for i in range(clients)]
    cluster = Cluster.of("signsgd", updates)
    _, observation = cluster.run(updates)
    other = cluster.scheme.others(
        observation.replies["signs"], observation.uploads["signs"], "client:0", {}, observation.round
    )
    observation.uploads["signs"] = other
    told = flat(cluster.scheme.decode(observation))
    votes = sum(flat(u).sign() for u in updates[1:])
    assert (told * votes >= 0).all()
    assert float((told != 0).float().mean()) > 0.4
    if clients == 2:
        assert torch.equal(told[told != 0], votes[told != 0])
        (term,) = cluster.scheme.measure(observation)["head.bias"]
        assert term.violation(Full(updates[1]["head.bias"][None])).tolist() == [0]


def test_a_fellow_gets_the_scaled_signs_of_the_one_other():
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of("signsgd:error_feedback=true", updates)
    aggregate, observation = cluster.run(updates)
    other = cluster.scheme.others(
        observation.replies["signs"], observation.uploads["signs"], "client:0", {}, observation.round
    )
    torch.testing.assert_close((other["dense"] + flat(cluster.scheme.decode(observation))) / 2, flat(aggregate))


def test_a_message_that_does_not_fit_is_refused():
    with pytest.raises(WireError, match="it must hold 'signs'"):
        signs({"values": torch.zeros(2)}, Layout({"w": (9,)}))
    with pytest.raises(WireError, match="9 numbers of 1 bits take 2"):
        signs({"signs": torch.zeros(1, dtype=torch.uint8)}, Layout({"w": (9,)}))
    assert parse("signsgd").spec == "signsgd"
