import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import guarantees, parse
from gradwire.schemes.composed import Composed
from gradwire.schemes.sga import SGA
from gradwire.schemes.topk import TopK
from tests.schemes.rounds import Cluster, flat, random_update
from tests.secure.sums import least


@given(st.integers(2, 4), st.sampled_from(["none", "powersgd:rank=2"]), st.sampled_from(["sga", "sga:threshold=T"]))
@settings(max_examples=20)
def test_composed_with_a_secure_sum_a_scheme_gives_what_it_gives_alone(clients, first, outer):
    outer = outer.replace("T", str(least(clients)))
    updates = [random_update(i) for i in range(clients)]
    alone, composed = Cluster.of(first, updates), Cluster.of(f"{first}+{outer}", updates)
    for turn in range(3):
        updates = [random_update(10 * turn + i) for i in range(clients)]
        expected, seen_alone = alone.run(updates)
        aggregate, seen = composed.run(updates)
        torch.testing.assert_close(flat(aggregate), flat(expected), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(flat(composed.scheme.decode(seen)), flat(aggregate))
    assert not set(seen.uploads) & set(seen_alone.uploads)


def test_top_k_composed_is_ssga():
    assert parse("topk:ratio=0.01+sga:bits=16") == parse("ssga:compression=100,bits=16")
    assert parse("topk:ratio=0.01,error_feedback=false+sga").residual is False


def test_a_scheme_whose_clients_send_units_of_their_own_is_refused():
    class Units(TopK):
        name = "units"

    with pytest.raises(GradwireError, match="in phase 'entries' of units clients send entries or units of their own"):
        Composed(Units(ratio=0.5), SGA())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sga+sga", r"sga\+sga: sga is a secure sum already"),
        ("none+sga+sga", r"composed\+sga: composed is a secure sum already"),
        ("none+topk:ratio=0.1", r"none\+topk: only sga can stand behind a plus"),
        ("topk:match_rank=2+sga", "the union needs a ratio, not match_rank"),
        ("none+", "unknown scheme ''"),
    ],
)
def test_what_does_not_compose_is_refused_with_the_reason(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)


def test_the_noise_of_a_sum_is_that_of_what_was_sent():
    zeros = {name: torch.zeros(200, 200) for name in random_update(0)}
    cluster = Cluster.of("noise:std=0.5+sga", [zeros] * 4)
    _, seen = cluster.run([zeros] * 4)
    spread = flat(cluster.scheme.decode(seen)).std()
    torch.testing.assert_close(spread, torch.tensor(cluster.scheme.deviation(seen.round)), rtol=0.02, atol=0)


@pytest.mark.parametrize("spec", ["none+sga", "noise:std=0.5+sga"])
def test_without_a_promise_there_is_none_behind_a_sum_either(spec):
    cluster = Cluster.of(spec, [random_update(i) for i in range(2)])
    assert guarantees(cluster.scheme, cluster.private) == ()
