"""Malicious clients: what they train on and send, whose updates change, and what outlives compression."""

from dataclasses import replace

import pytest
import torch

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, initial_states, parse
from gradwire.studies import run_training
from gradwire.training import TrainSettings, begin, train
from gradwire.training.malice import Malice, norm, patched, survives
from gradwire.wire import InProcess, Transcript, client

CLIENTS = 4


@pytest.fixture(scope="module")
def digits():
    return data.load("digits:train=128,test=60")


@pytest.fixture
def update():
    random = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(12, 10, generator=random), "bias": torch.randn(12, generator=random)}


def around(update):
    return Round(0, (client(0),), 0, Layout.of(update))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("flop", "unknown malice 'flop'; known: flip, trigger, sign"),
        ("flip:boost=0", "boost is 0.0; it must be positive"),
        ("flip:boots=2", "cannot read 'boots=2'"),
        ("", "unknown malice ''"),
    ],
)
def test_a_malice_that_there_is_none_of_is_refused(spec, says):
    with pytest.raises(GradwireError, match=says):
        Malice.parse(spec)


def test_settings_name_both_who_and_what():
    with pytest.raises(GradwireError, match="malicious is 2 and malice ''; they go together"):
        TrainSettings(malicious=2)
    with pytest.raises(GradwireError, match="malicious is 5; it must be from 0 to 4"):
        TrainSettings(malicious=5, malice="flip")


def test_flipped_labels_are_those_of_the_named_rows_alone_and_judged_so(digits):
    rows = torch.arange(10)
    bad = Malice("flip").poisoned(digits, rows)
    assert torch.equal(bad.targets[rows], 9 - digits.targets[rows])
    assert torch.equal(bad.targets[10:], digits.targets[10:])
    assert torch.equal(bad.inputs, digits.inputs)
    assert torch.equal(Malice("flip").judged(digits).targets, 9 - digits.targets)


def test_a_trigger_is_on_every_second_row_and_judged_on_all_of_other_classes(digits):
    rows = torch.arange(20, 40)
    bad = Malice("trigger").poisoned(digits, rows)
    changed = (bad.inputs != digits.inputs).flatten(1).any(1).nonzero()[:, 0]
    assert set(changed.tolist()) <= set(rows[::2].tolist())
    assert torch.equal(bad.inputs[rows[::2]], patched(digits, rows[::2]))
    assert set(bad.targets[rows[::2]].tolist()) == {0}
    judged = Malice("trigger").judged(digits)
    assert len(judged) == int((digits.targets != 0).sum())
    assert set(judged.targets.tolist()) == {0}
    assert bool((judged.inputs[..., -2:, -2:] == judged.inputs.max()).all())


def test_what_has_no_classes_is_refused():
    with pytest.raises(GradwireError, match="no class numbers"):
        Malice("flip").poisoned(data.load("diabetes"), torch.arange(2))


@pytest.mark.data
def test_what_has_no_pixels_is_refused():
    with pytest.raises(GradwireError, match="a patch is on images"):
        Malice("trigger").poisoned(data.load("adult:train=50"), torch.arange(2))


@pytest.mark.parametrize(("kind", "factor"), [("flip", 3.0), ("trigger", 3.0), ("sign", -3.0)])
def test_an_update_is_boosted_and_a_sign_turns_it(update, kind, factor):
    sent = Malice(kind, boost=3.0).sent(update, {}, {}, parse("none"), around(update), client(0))
    assert all(torch.equal(sent[name], factor * update[name]) for name in update)


@pytest.mark.parametrize("spec", ["topk:ratio=0.1", "powersgd:rank=1"])
def test_a_shaped_update_is_as_long_and_loses_less(update, spec):
    scheme, round = parse(spec), around(update)
    private = initial_states(scheme, round.layout, round.clients, 0)[client(0)]
    public = scheme.public_state(round.layout)
    shaped = Malice("flip", shaped=True).sent(update, private, public, scheme, round, client(0))
    assert norm(shaped) == pytest.approx(norm(update), rel=1e-4)

    def lost(one):
        left = survives(one, private, public, scheme, round, client(0))
        return norm({name: one[name] - left[name] for name in one}) / norm(one)

    assert lost(shaped) < 0.01 < 0.5 < lost(update)


def test_a_secure_sum_of_one_is_not_rehearsed(update):
    with pytest.raises(GradwireError, match="sga is a secure sum"):
        Malice("flip", shaped=True).sent(update, {}, {}, parse("sga"), around(update), client(0))


def brought(digits, **changed):
    """What each client's first message was decoded to, party → update, under plain SGD."""
    settings = TrainSettings(clients=CLIENTS, rounds=1, batch_size=8, **changed)
    state, carrier = begin(settings, digits.network("mlp:hidden=8", 0)), InProcess(Transcript())
    train(state, settings, digits, carrier)
    return {m.sender: m.tensors for m in carrier.transcript.messages(0) if m.sender != "server"}


def test_only_malicious_clients_send_something_else(digits):
    honest, bad = brought(digits), brought(digits, malicious=2, malice="sign:boost=5.0")
    for index in range(CLIENTS):
        factor = -5 if index < 2 else 1
        for name, tensor in honest[client(index)].items():
            torch.testing.assert_close(bad[client(index)][name], factor * tensor)
    flipped = brought(digits, malicious=1, malice="flip")
    same = [all(torch.equal(t, honest[p][n]) for n, t in flipped[p].items()) for p in honest]
    assert same == [False, True, True, True]


def test_boosted_updates_pass_error_feedback_as_all_do(update):
    """What Top-K kept back of a malicious update stays with that client, boosted."""
    scheme, round = parse("topk:ratio=0.1"), around(update)
    private = initial_states(scheme, round.layout, round.clients, 0)[client(0)]
    bad = Malice("flip", boost=2.0).sent(update, private, {}, scheme, round, client(0))

    def kept(one):
        public = scheme.public_state(round.layout)
        result = run_round(scheme, {client(0): Contribution(one, private)}, public, round, InProcess())
        return scheme.kept_back(result.private[client(0)], round.layout)

    assert all(torch.allclose(kept(bad)[name], 2 * kept(update)[name]) for name in update)


def test_a_run_tells_what_the_attackers_got_and_who_they_were(tmp_path):
    from gradwire.runs import read_table

    settings = TrainSettings(clients=CLIENTS, rounds=2, batch_size=8, malicious=1, malice="trigger")
    folder = run_training("digits:train=64,test=40", "mlp:hidden=8", settings, out=tmp_path / "run")
    (row,) = read_table(folder / "results.csv")
    assert 0 <= float(row["attack_success"]) <= 1
    assert "1 of 4 clients are malicious: trigger." in (folder / "config.json").read_text()
    plain = replace(settings, malicious=0, malice="")
    folder = run_training("digits:train=64,test=40", "mlp:hidden=8", plain, out=tmp_path / "plain")
    assert "attack_success" not in read_table(folder / "results.csv")[0]
