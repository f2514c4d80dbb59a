import csv
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss

from gradwire import capture, invert, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.labels.infer import counts
from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy
from gradwire.studies import AuditSettings, audit
from gradwire.tasks import BinaryCrossEntropy, Numbers, Task
from gradwire.tasks.task import task_of
from gradwire.training.capture import capture_rounds


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


def test_labels_that_cannot_be_inferred_are_refused_by_attacks_that_use_them(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
    view = capture(model, *digits.batch([0]), targets_known=False)
    for attack in ("iga", "idlg", "bayes"):
        with pytest.raises(GradwireError, match=r"labels cannot be inferred: no parameter .*; say that they are known"):
            invert(view, attack, iterations=1)
    assert torch.allclose(invert(view, "analytic").inputs[0], digits.batch([0])[0], atol=1e-4)
    sought = invert(view, "dlg", iterations=300)
    assert sought.targets.tolist() == [digits.batch([0])[1].tolist()]


def network(*wrap):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), *wrap)


WEIGHTS = torch.linspace(0.2, 3, 10)


def weighted(logits, labels):
    return cross_entropy(logits, labels, WEIGHTS.to(logits))


def smoothed(logits, labels):
    return cross_entropy(logits, labels, label_smoothing=0.3)


def tempered(logits, labels):
    return cross_entropy(logits / 5, labels, reduction="sum")


def of_log_probabilities(logits, labels):
    return nll_loss(logits, labels)


@pytest.mark.parametrize(
    ("loss", "wrap", "exact"),
    [
        (weighted, (), False),
        (smoothed, (), False),
        (tempered, (), False),
        (of_log_probabilities, (nn.LogSoftmax(1),), True),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_users_function_is_read_by_the_slopes_that_it_has(digits, loss, wrap, exact, batch):
    task = task_of(digits.batch([0])[0], loss)
    model = network(*wrap)
    assert accuracy(model, digits, batch, task=task) > 0.95
    view = capture(model, *digits.batch(range(batch)), task=task, targets_known=False)
    assert pose(view, "adaptive").inferred.exact == (exact and batch == 1)


def test_a_function_of_something_else_is_refused(digits):
    def squares(logits, labels):
        return (logits[:, 0] - labels).square().mean()

    def strange(logits, labels):
        return logits.scores.sum()

    images, labels = digits.batch([0, 1])
    view = capture(network(), images, labels, task=task_of(images, squares), targets_known=False)
    view = replace(view, task=task_of(images, strange))
    assert (
        "'own' cannot be inferred: it is no function of logits and class numbers" in pose(view, "naive").inferred.reason
    )


@pytest.mark.parametrize("batch", [1, 8])
def test_yes_or_no_labels_are_counted(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    task = Task(Numbers((6,)), BinaryCrossEntropy())
    right = []
    for number in range(10):
        random = torch.Generator().manual_seed(number)
        inputs, targets = torch.randn(batch, 6, generator=random), torch.randint(2, (batch, 1), generator=random)
        view = capture(model, inputs, targets.float(), task=task, targets_known=False)
        found = pose(view, "adaptive").inferred
        assert found.targets.shape == (batch, 1)
        assert found.exact == (batch == 1)
        right.append(label_accuracy(found.targets[:, 0].long(), targets[:, 0]))
    assert torch.cat(right).mean() > (0.95 if batch > 1 else 0.999)
    several = Task(Numbers((6,)), BinaryCrossEntropy(3))
    model[2] = nn.Linear(16, 3)
    inputs, targets = torch.randn(2, 6), torch.tensor([[0.0, 1, 1], [1, 0, 1]])
    view = capture(model, inputs, targets, task=several, targets_known=False)
    assert "do not say whose they are" in pose(view, "adaptive").inferred.reason
    alone = pose(capture(model, inputs[:1], targets[:1], task=several, targets_known=False), "adaptive").inferred
    assert alone.targets.tolist() == [[0, 1, 1]]
    assert alone.exact


@pytest.mark.parametrize(
    ("scheme", "exact"),
    [
        ("none", True),
        ("powersgd:rank=1", True),
        ("topk:ratio=0.3", True),
        ("signsgd", True),
        ("qsgd:bits=8", True),
        ("noise:std=1e-9", False),
    ],
)
def test_what_follows_is_told_from_what_is_estimated(digits, scheme, exact):
    view = capture(network(), *digits.batch([3]), scheme, targets_known=False)
    found = pose(view, "adaptive").inferred
    assert found.targets.tolist() == digits.batch([3])[1].tolist()
    assert found.exact == exact
    several = capture(network(), *digits.batch([3, 4]), scheme, targets_known=False)
    assert not pose(several, "adaptive").inferred.exact


def test_a_sum_of_several_clients_a_residual_and_weight_decay_prove_nothing(digits):
    images, labels = digits.batch([3])
    fellows = [digits.batch([5])]
    for knowledge in ("naive", "adaptive"):
        view = capture(network(), images, labels, "sga", fellows=fellows, targets_known=False)
        assert not pose(view, knowledge).inferred.exact
    later = capture_rounds(network(), images, labels, "topk:ratio=0.3", 2, targets_known=False)
    assert [pose(view, "adaptive").inferred.exact for view in later] == [True, False]
    view = capture(network(), images, labels, weight_decay=0.1, targets_known=False)
    assert not pose(view, "adaptive").inferred.exact


def test_an_audit_says_how_many_labels_were_found(tmp_path):
    quick = {"samples": 2, "batch": 2, "attacks": ("iga:iterations=2",), "schemes": ("none",), "knowledge": "naive"}
    for labels, expected in (("inferred", {"1"}), ("known", {""})):
        folder = audit(AuditSettings(**quick, labels=labels), tmp_path / labels)
        with (folder / "results.csv").open(newline="") as file:
            assert {row["label_accuracy"] for row in csv.DictReader(file)} == expected
