import csv

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradwire import capture, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.labels import counts
from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy
from gradwire.studies import AuditSettings, audit


def accuracy(model, digits, batch, victims=10, scheme="none", **options):
    """Mean accuracy over victims of random images."""
    found, true = [], []
    for victim in range(victims):
        chosen = torch.randperm(len(digits), generator=torch.Generator().manual_seed(victim))[:batch]
        images, labels = digits.batch(chosen)
        view = capture(model, images, labels, scheme, targets_known=False, freeze=False, **options)
        found.append(pose(view, "adaptive").targets)
        true.append(labels)
    return float(label_accuracy(torch.stack(found), torch.stack(true)).mean())


@pytest.mark.parametrize("batch", [2, 8, 32])
@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet"])
def test_an_untrained_networks_bias_counts_the_labels(digits, name, batch):
    model = models.build(name, digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    assert accuracy(model, digits, batch) > 0.95


def test_weights_stand_in_for_a_bias_that_is_not_there_or_was_not_sent(digits):
    model = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    assert accuracy(model, digits, 4, scheme="topk:ratio=0.01") > 0.8
    model.head = nn.Linear(model.head.in_features, 10, bias=False)
    assert accuracy(model, digits, 4) > 0.8


def test_labels_come_sorted_and_one_an_image(digits):
    model = models.build("mlp", digits.shape, digits.outputs, seed=0)
    view = capture(model, *digits.batch(range(16)), targets_known=False)
    labels = pose(view, "naive").targets
    assert labels.shape == (16,)
    assert torch.equal(labels, labels.sort().values)


@given(st.lists(st.integers(0, 5), min_size=10, max_size=10).filter(any))
def test_whole_counts_are_kept_as_they_are(true):
    expected = torch.tensor(true, dtype=torch.float64)
    labels = counts(expected, expected > 0, sum(true))
    assert labels.bincount(minlength=10).tolist() == true


def test_a_class_with_a_negative_gradient_occurs_whatever_is_expected():
    expected, present = torch.tensor([3.0, 0.1, 0.2]), torch.tensor([False, True, False])
    assert counts(expected, present, 3).tolist() == [0, 0, 1]


def test_a_network_without_a_linear_layer_is_refused(digits):
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(GradwireError, match="has no linear layer"):
        pose(capture(model, *digits.batch([0, 1]), targets_known=False), "naive")


def test_an_audit_says_how_many_labels_were_found(tmp_path):
    quick = {"samples": 2, "batch": 2, "attacks": ("iga:iterations=2",), "schemes": ("none",), "knowledge": "naive"}
    for labels, expected in (("inferred", {"1"}), ("known", {""})):
        folder = audit(AuditSettings(**quick, labels=labels), tmp_path / labels)
        with (folder / "results.csv").open(newline="") as file:
            assert {row["label_accuracy"] for row in csv.DictReader(file)} == expected
