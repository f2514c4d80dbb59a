"""Canaries are what they are said to be, and nothing else is touched."""

import pytest
import torch

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.studies.membership.canaries import plant

DIGITS = data.load("digits", "train", 200)


def test_mislabelled_ones_keep_their_image_and_lose_their_label():
    planted, where = plant(DIGITS, "mislabelled:30", seed=1)
    rest = torch.ones(200, dtype=torch.bool).index_fill_(0, where, False)
    assert len(where.unique()) == 30
    assert torch.equal(planted.inputs, DIGITS.inputs)
    assert (planted.targets[where] != DIGITS.targets[where]).all()
    assert torch.equal(planted.targets[rest], DIGITS.targets[rest])


def test_random_ones_keep_their_label_and_lose_their_image():
    planted, where = plant(DIGITS, "random:30", seed=1)
    rest = torch.ones(200, dtype=torch.bool).index_fill_(0, where, False)
    assert torch.equal(planted.targets, DIGITS.targets)
    assert torch.equal(planted.inputs[rest], DIGITS.inputs[rest])
    assert 0.4 < planted.inputs[where].mean() < 0.6
    assert (planted.inputs[where] != DIGITS.inputs[where]).flatten(1).any(1).all()


def test_none_are_planted_unless_asked_for():
    planted, where = plant(DIGITS, "", seed=1)
    assert len(where) == 0
    assert torch.equal(planted.inputs, DIGITS.inputs)


@pytest.mark.parametrize("spec", ["mislabelled", "mislabelled:1", "mislabelled:-3", "inverted:10", "random:101"])
def test_what_cannot_be_planted_is_refused(spec):
    with pytest.raises(GradwireError, match=f"canaries is '{spec}'"):
        plant(DIGITS, spec, seed=0)
