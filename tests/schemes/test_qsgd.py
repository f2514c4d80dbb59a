import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import parse
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Cells
from tests.schemes.rounds import Cluster, flat, random_update


def once(spec, vector, seed=0):
    scheme = parse(spec)
    sent = scheme.quantise(vector, torch.Generator().manual_seed(seed))
    return sent, scheme.dequantise(sent, vector.numel())


@given(st.integers(2, 8), st.integers(1, 60), st.integers(1, 200), st.integers(0, 1000))
def test_every_entry_lands_on_a_level_next_to_it(bits, bucket, size, seed):
    vector = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    sent, decoded = once(f"qsgd:bits={bits},bucket={bucket}", vector, seed)
    step = sent["norms"].repeat_interleave(bucket)[:size] / (2 ** (bits - 1) - 1)
    assert ((decoded - vector).abs() <= step * (1 + 1e-5)).all()
    level = decoded / step
    torch.testing.assert_close(level, level.round(), atol=1e-4, rtol=0)
    assert (decoded * vector >= 0).all()


@pytest.mark.parametrize("spec", ["qsgd", "qsgd:bits=2,bucket=16", "qsgd:bits=8"])
def test_is_unbiased(spec):
    """Each of 100 entries' mean over 2,000 draws lies within 5 standard errors: by chance it fails once in 17,000."""
    vector = torch.randn(100, generator=torch.Generator().manual_seed(0))
    draws = torch.stack([once(spec, vector, seed)[1] for seed in range(2000)])
    error = (draws.mean(0) - vector).abs()
    assert (error <= 5 * draws.std(0) / 2000**0.5 + 1e-6).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_variance_is_within_the_papers_bound(bits):
    """Lemma 3.1: E‖Q_s(v) − v‖² ≤ min(n/s², √n/s)·‖v‖²."""
    n, s = 512, 2 ** (bits - 1) - 1
    vector = torch.randn(n, generator=torch.Generator().manual_seed(0))
    errors = torch.stack([(once(f"qsgd:bits={bits}", vector, seed)[1] - vector).square().sum() for seed in range(200)])
    assert errors.mean() <= min(n / s**2, n**0.5 / s) * vector.square().sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_bits_and_norms_are_all_that_is_sent(bits):
    sent, _ = once(f"qsgd:bits={bits},bucket=100", torch.randn(1001))
    assert sent["codes"].nbytes == -(-1001 * bits // 8)
    assert sent["norms"].nbytes == 4 * 11


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-20, 1e18])
def test_any_scale(scale):
    vector = scale * torch.randn(50, generator=torch.Generator().manual_seed(0))
    _, decoded = once("qsgd:bits=8", vector)
    assert torch.isfinite(decoded).all()
    assert (decoded - vector).norm() <= vector.norm()


def test_rounding_is_private_to_a_client_and_reproducible():
    updates = [random_update(0), random_update(0)]
    first, again = Cluster.of("qsgd", updates), Cluster.of("qsgd", updates)
    _, one = first.run(updates)
    _, same = again.run(updates)
    assert torch.equal(one.uploads["levels"]["codes"], same.uploads["levels"]["codes"])
    _, later = first.run(updates)
    assert not torch.equal(one.uploads["levels"]["codes"], later.uploads["levels"]["codes"])
    keys = {int(state["key"]) for state in first.private.values()}
    assert len(keys) == 2


def test_measurement_is_a_cell_around_the_truth():
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of("qsgd:bucket=64", updates)
    _, observation = cluster.run(updates)
    for name, (term,) in cluster.scheme.measure(observation).items():
        assert isinstance(term, Cells)
        assert term.violation(Full(updates[0][name][None])).tolist() == [0]
        assert (term.violation(Full(3 * updates[0][name][None])) > 0).all()
        assert (term.violation(Full(updates[1][name][None])) > 0).all()
        assert torch.equal(term.observed[0], cluster.scheme.decode(observation)[name])


def test_a_fellow_gets_the_others_mean():
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of("qsgd", updates)
    aggregate, observation = cluster.run(updates)
    other = cluster.scheme.others(
        observation.replies["levels"], observation.uploads["levels"], "client:0", {}, observation.round
    )
    mine = flat(cluster.scheme.decode(observation))
    torch.testing.assert_close((other["dense"] + mine) / 2, flat(aggregate))


def test_a_message_that_does_not_fit_is_refused():
    scheme = parse("qsgd")
    sent = scheme.quantise(torch.randn(600), torch.Generator())
    with pytest.raises(WireError, match=r"'norms' holds shape \(2,\) of torch.float32; shape \(3,\) of"):
        scheme.dequantise(sent, 1100)
    with pytest.raises(WireError, match=r"'codes' holds shape \(300,\) of torch.uint8; shape \(301,\)"):
        scheme.dequantise(sent, 601)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("qsgd:bits=1", "bits is 1; it must be in 2 to 8"), ("qsgd:bucket=0", "bucket is 0; it must be at least 1")],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
