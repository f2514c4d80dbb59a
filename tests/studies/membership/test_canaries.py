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
    assert torch.equal(planted.images, DIGITS.images)
    assert (planted.labels[where] != DIGITS.labels[where]).all()
    assert torch.equal(planted.labels[rest], DIGITS.labels[rest])


def test_random_ones_keep_their_label_and_lose_their_image():
    planted, where = plant(DIGITS, "random:30", seed=1)
    rest = torch.ones(200, dtype=torch.bool).index_fill_(0, where, False)
    assert torch.equal(planted.labels, DIGITS.labels)
    assert torch.equal(planted.images[rest], DIGITS.images[rest])
    assert 0.4 < planted.images[where].mean() < 0.6
    assert (planted.images[where] != DIGITS.images[where]).flatten(1).any(1).all()


def test_none_are_planted_unless_asked_for():
    planted, where = plant(DIGITS, "", seed=1)
    assert len(where) == 0
    assert torch.equal(planted.images, DIGITS.images)


@pytest.mark.parametrize("spec", ["mislabelled", "mislabelled:1", "mislabelled:-3", "inverted:10", "random:101"])
def test_what_cannot_be_planted_is_refused(spec):
    with pytest.raises(GradwireError, match=f"canaries is '{spec}'"):
        plant(DIGITS, spec, seed=0)
