"""Whom a model is trained on is drawn for it on its own; bad settings are refused before any training."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.studies.membership import MembershipSettings
from gradwire.studies.membership.shadow_experiment import halves, shadow_experiment

NONE = torch.tensor([], dtype=torch.int64)


def test_every_model_has_exactly_half_of_the_candidates():
    assert (halves(20, 101, NONE, 3).sum(1) == 50).all()


def test_whom_a_model_has_says_nothing_of_whom_another_has():
    """A model's half is the same however many others there are."""
    canaries = torch.tensor([3, 7, 8])
    assert torch.equal(halves(2, 60, canaries, 3), halves(9, 60, canaries, 3)[:2])
    together = halves(400, 60, NONE, 3).double()
    expected = 0.25  # of pairs of models, each half of the candidates
    shared = (together @ together.T / 60).triu(1)
    assert abs(shared[shared > 0].mean() - expected) < 0.01


def test_canaries_are_in_by_the_toss_of_a_coin_each():
    members = halves(500, 40, torch.arange(10), 0)
    rates = members[:, :10].double().mean(0)
    assert ((rates - 0.5).abs() < 4 * 0.5 / 500**0.5).all()
    # Coins, not a half: how many are in differs from model to model as coins do.
    assert 1.5 < members[:, :10].sum(1).double().var() < 3.5
    assert (members[:, 10:].sum(1) == 15).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shadows": 0}, "shadows is 0"),
        ({"shadows": 6, "attacks": ("lira",)}, "shadows is 6; lira needs at least 7"),
        ({"shadows": 1, "attacks": ("loss",)}, "threshold shadow needs at least 2"),
        ({"epochs": 0}, "epochs is 0"),
        ({"attacks": ("magic",)}, "unknown attack 'magic'; known: prediction, .*cosine"),
        ({"attacks": ("lira:variance=none",)}, "variance"),
        ({"attacks": ("fedmia",), "clients": 2}, "clients is 2, and under none .* 2 of their messages; fedmia needs 3"),
        ({"attacks": ("fedmia",), "schemes": ("sga",)}, "under sga the server sees 1 of their messages"),
        ({"attacks": ()}, "an attack or canaries"),
        ({"thresholds": ("median",)}, "unknown threshold 'median'; known: mean-loss, shadow, target"),
        ({"thresholds": ("mean-loss",), "attacks": ("loss", "lira")}, "no loss sets a threshold for lira"),
        ({"schemes": ("zip",)}, "unknown scheme 'zip'"),
        ({"schemes": ()}, "at least one scheme"),
        ({"augment": "rotate"}, "augment is 'rotate'"),
        ({"canaries": "gold:9"}, "canaries is 'gold:9'"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"knowledge": "some"}, "unknown knowledge 'some'"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"partition": "rows"}, "unknown partition"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"device": "toaster"}, "device 'toaster'"),
        ({"compile": True}, "compile"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, says):
    with pytest.raises(GradwireError, match=says):
        MembershipSettings(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": "digits:train=12"}, "class '.' has . of the 12 candidates"),
        ({"data": "digits:train=40"}, "class '.' has no .*members for model . among its . candidates"),
        (
            {"data": "digits:train=100", "batch_size": 20, "attacks": ("loss",)},
            "4 clients with batches of 20 need as many members",
        ),
        ({"data": "digits:train=200", "epochs": 1, "attacks": ("cosine",)}, "watched is 5; .* has 1"),
        ({"data": "digits:train=100", "canaries": "random:60"}, "canaries is 'random:60'"),
        ({"data": "nowhere"}, "unknown data 'nowhere'"),
        ({"model": "vgg"}, "unknown model 'vgg'"),
        ({"schemes": ("none", "sga"), "clients": 1}, "2 clients"),
    ],
)
def test_what_the_data_do_not_suit_is_refused(options, says):
    with pytest.raises(GradwireError, match=says):
        shadow_experiment(MembershipSettings(**options))


def test_a_class_that_has_one_candidate_is_named(tmp_path):
    for kind, count, shade in (("cats", 12, 0), ("dogs", 1, 10)):
        (tmp_path / "train" / kind).mkdir(parents=True)
        (tmp_path / "test" / kind).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), 20 * number + shade).save(tmp_path / "train" / kind / f"{number}.png")
        Image.new("L", (8, 8), 250 + shade // 10).save(tmp_path / "test" / kind / "0.png")
    with pytest.raises(GradwireError, match="class 'dogs' has 1 of the 13 candidates"):
        shadow_experiment(MembershipSettings(data=str(tmp_path), clients=1, batch_size=2))


def _doubled(monkeypatch, split):
    """Digits whose last image of a split is the first training image again."""
    load, first = data.load, data.load("digits:train=40,test=20", "train").inputs[0]

    def twice(name, which, *limit):
        found = load(name, which, *limit)
        return replace(found, inputs=torch.cat([found.inputs[:-1], first[None]])) if which == split else found

    monkeypatch.setattr(data, "load", twice)
    # Another seed than that of experiments that are not doubled, for the last one is kept.
    return MembershipSettings(
        data="digits:train=40,test=20", model="mlp", attacks=("loss",), shadows=2, clients=1, seed=len(split)
    )


def test_of_candidates_that_repeat_the_first_stays(monkeypatch):
    experiment = shadow_experiment(_doubled(monkeypatch, "train"))
    assert (len(experiment.pool), experiment.repeated) == (39, 1)
    assert torch.equal(experiment.pool.inputs, data.load("digits:train=40", "train").inputs[:39])


def test_a_candidate_in_the_population_is_left_out_of_it(monkeypatch):
    assert len(shadow_experiment(_doubled(monkeypatch, "test")).population) == 19
