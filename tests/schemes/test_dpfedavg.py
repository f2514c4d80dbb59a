"""User-level privacy: clipped updates, and noise in their sum, to which every client adds a share."""

import pytest
import torch

from gradwire import capture, data, models
from gradwire.errors import GradwireError, TooFewError
from gradwire.schemes import guarantees, observation, parse
from gradwire.schemes.accounting import gaussian
from gradwire.training import TrainSettings, begin, evaluate, train
from tests.schemes.rounds import Cluster, flat, random_update


def cluster(spec, count=4, size=1.0):
    updates = [{n: size * t for n, t in random_update(i).items()} for i in range(count)]
    return Cluster.of(spec, updates), updates


def test_no_client_counts_for_more_than_the_clip():
    run, updates = cluster("dpfedavg:clip=1,noise=0")
    updates[0] = {name: 1e-4 * t for name, t in updates[0].items()}
    mean, _ = run.run(updates)
    norms = [float(flat(u).norm()) for u in updates]
    assert norms[0] < 1 < min(norms[1:])
    right = sum(flat(u) * min(1, 1 / n) for u, n in zip(updates, norms, strict=True)) / 4
    torch.testing.assert_close(flat(mean), right)


def test_the_sum_has_all_the_noise_without_any_one_share():
    run, updates = cluster("dpfedavg:clip=1e-6,noise=1e6", count=5)
    mean, seen = run.run(updates)
    total = 5 * flat(mean)
    assert float(total.std()) == pytest.approx((5 / 4) ** 0.5, rel=0.1)
    # A client knows its own share, and takes it out.
    assert float((total - flat(run.scheme.decode(seen))).std()) == pytest.approx(1, rel=0.1)
    again, _ = run.run(updates)
    assert not torch.equal(flat(again), flat(mean))


@pytest.mark.parametrize("spec", ["dpfedavg:clip=1,noise=2", "dpfedavg:clip=1,noise=2+sga"])
def test_it_is_accounted_for_by_rounds_and_clients(spec):
    run, updates = cluster(spec, count=3)
    for _ in range(3):
        run.run(updates)
    replaced, zeroed = guarantees(run.scheme, run.private)
    assert (replaced.unit, replaced.adjacency, zeroed.adjacency) == ("client", "replace", "zero-out")
    assert replaced.epsilon == gaussian("replace", 3, 2.0, 1e-5, "").epsilon
    notes = run.scheme.accounting.notes(run.private)
    assert "under replace of one client (3 rounds with a client" in notes[0]
    assert any("the server needs a secure sum" in note for note in notes)
    assert "infinite" in parse("dpfedavg:noise=0").notes({})[0]


def test_a_share_that_is_missing_is_no_round():
    digits = data.load("digits:train=200", "train")
    network = models.build("mlp:hidden=8", digits.shape, 10, seed=0)
    batches = [digits.batch(torch.arange(8 * i, 8 * i + 8)) for i in range(3)]
    with pytest.raises(TooFewError, match="client:2 is gone, and with it its share of dpfedavg's noise"):
        capture(network, *batches[0], "dpfedavg", fellows=batches[1:], drop={"client:2": "update"})
    settings = TrainSettings(scheme="dpfedavg", clients=3, rounds=1, drop_clients=0.1)
    with pytest.raises(GradwireError, match="needs whole updates, of clients that all stay to a round's end"):
        begin(settings, network)
    with pytest.raises(GradwireError, match="with a threshold clients may be gone, and with them their noise"):
        parse("dpfedavg+sga:threshold=2")
    with pytest.raises(GradwireError, match="updates that count alike"):
        begin(TrainSettings(scheme="dpfedavg", clients=3, rounds=1, average="weighted"), network)


def test_running_statistics_are_not_sent_beside():
    digits = data.load("digits:train=200", "train")
    norm = models.build("resnet20", digits.shape, 10, seed=0)
    with pytest.raises(GradwireError, match="holds statistics of the examples, to which dpfedavg adds no noise"):
        capture(norm, *digits.batch(torch.arange(8)), "dpfedavg")


def test_it_learns_under_local_work():
    digits = data.load("digits:train=800", "train")
    settings = TrainSettings(
        scheme="dpfedavg:clip=1,noise=0.1", clients=8, rounds=30, local_epochs=1, batch_size=16, lr=0.1
    )
    state = begin(settings, models.build("mlp:hidden=32", digits.shape, 10, digits.mean, digits.std, seed=0))
    train(state, settings, digits)
    assert evaluate(state.model, data.load("digits", "test"))["accuracy"] > 0.8


def test_an_adversary_is_told_the_deviation():
    digits = data.load("digits:train=200", "train")
    network = models.build("mlp:hidden=8", digits.shape, 10, seed=0)
    batches = [digits.batch(torch.arange(8 * i, 8 * i + 8)) for i in range(3)]
    found = []
    for spec in ("dpfedavg:clip=1e-6,noise=1e6", "dpfedavg:clip=1e-6,noise=0"):
        scheme, seen = observation(capture(network, *batches[0], spec, fellows=batches[1:]))
        found.append(flat(scheme.decode(seen)))
    stated = parse("dpfedavg:clip=1e-6,noise=1e6").deviation(seen.round)
    assert float((found[0] - found[1]).std()) == pytest.approx(stated, rel=0.1)
    assert stated == pytest.approx(2**-0.5)
