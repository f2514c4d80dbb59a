"""What an audit gives its adversary to rehearse on: examples of the training split, none of which a party holds."""

import pytest
import torch

from gradwire import data
from gradwire.data import image_dataset
from gradwire.errors import GradwireError
from gradwire.studies import AuditSettings
from gradwire.studies.audit_cells import load_public_examples

HERE = "tests.studies.test_own_images"


def shared(split="train", limit=None):
    """Six images a split, of which the training split's second and third are the test split's first two."""
    drawn = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = drawn[:6] if split == "test" else torch.cat([drawn[6:7], drawn[:2], drawn[7:]])
    return image_dataset("shared", split, images[:limit], torch.arange(6)[:limit] % 3, ("a", "b", "c"))


def alone(split="train", limit=None):
    """Has no training split."""
    if split == "train":
        raise GradwireError("there is no training split")
    return shared("test", limit)


def own(data_spec="shared", **settings):
    settings = {"samples": 2, "attacks": ("annealed",)} | settings
    chosen = AuditSettings(data=f"{HERE}:{data_spec}", **settings)
    return load_public_examples(chosen, data.load(chosen.data, chosen.split))


def test_a_victims_image_is_passed_over():
    found = own()
    train = shared("train").batch(range(6))[0]
    assert torch.equal(found.inputs, train[[0, 3, 4, 5]])
    assert "images 0 to 5, 2 passed over" in found.source


def test_a_victims_image_among_those_that_were_asked_for_is_refused():
    with pytest.raises(GradwireError, match=r"public is 4, and training example 1 of .* is one that a party of this"):
        own(public=4)
    assert len(own(public=1).inputs) == 1


def test_images_of_other_victims_may_be_ones_own():
    found = own(samples=1)
    assert torch.equal(found.inputs, shared("train").batch([0, 2, 3, 4])[0])


def test_without_enough_to_spare_there_is_nothing_to_rehearse_on():
    assert own(batch=2) is None
    assert own("alone") is None
    with pytest.raises(GradwireError, match="there is no training split"):
        own("alone", public=1)
    with pytest.raises(GradwireError, match=r"public is 7; .* has 6 training images to spare"):
        own(public=7)


def test_attacks_that_do_not_rehearse_are_given_nothing():
    assert own(attacks=("iga",)) is None
