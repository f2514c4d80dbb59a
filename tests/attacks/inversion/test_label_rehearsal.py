"""What a report says of inferred labels is so: exact, or right as often as in rounds of the adversary's own."""

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from gradwire import capture, invert
from gradwire.attacks.inversion import PublicExamples, label_notes, pose
from gradwire.attacks.inversion.labels import rehearsal as label_rehearsal
from gradwire.attacks.inversion.labels.rehearsal import expected_share
from gradwire.metrics import label_accuracy
from gradwire.studies import AuditSettings, audit
from gradwire.tasks import BinaryCrossEntropy, Numbers, Task


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 10))


def posed(digits, chosen, scheme="none", knowledge="adaptive", **options):
    options.setdefault("targets_known", False)
    return pose(capture(network(), *digits.batch(chosen), scheme, **options), knowledge)


def right(digits, scheme):
    """The mean share of labels that are found in four rounds of six images, from the hundredth on."""
    groups = [range(100 + 6 * turn, 106 + 6 * turn) for turn in range(4)]
    each = [label_accuracy(posed(digits, group, scheme).targets, digits.batch(group)[1]) for group in groups]
    return float(torch.cat(each).mean())


@pytest.mark.parametrize("scheme", ["none", "qsgd:bits=2", "topk:ratio=0.05", "powersgd:rank=1"])
def test_a_rehearsal_counts_what_the_estimator_finds_in_such_rounds(digits, scheme):
    own = PublicExamples(*digits.batch(range(100, 124)), "digits")
    share = expected_share(posed(digits, range(6), scheme), own, 4)
    # Stochastic rounding draws anew in each round.
    assert share == pytest.approx(right(digits, scheme), abs=0.15 if scheme.startswith("qsgd") else 1e-6)


def test_of_a_sum_the_labels_of_all_clients_are_counted(digits):
    own = PublicExamples(*digits.batch(range(100, 124)), "digits")
    problem = posed(digits, [1, 2], "sga", fellows=[digits.batch([3, 4]), digits.batch([5, 6])])
    assert problem.targets.shape == (6,)
    assert expected_share(problem, own, 4) == pytest.approx(right(digits, "none"))


def test_lines_say_what_is_proven_what_is_estimated_and_on_what(digits):
    rehearsed = {}
    assert label_notes([posed(digits, [0, 1], targets_known=True)], rehearsed) == ()
    assert label_notes([posed(digits, [0])], rehearsed) == ("none: labels follow exactly from what was sent",)
    assert rehearsed == {}
    batch = posed(digits, range(4))
    (line,) = label_notes([batch, batch], rehearsed)
    on_noise = r"none: labels are estimates, right for about (\d+) % of a batch \(8 rehearsals on noise; of real"
    assert 80 <= int(re.match(on_noise, line)[1]) <= 100
    own = PublicExamples(*digits.batch(range(100, 115)), "digits")
    (line,) = label_notes([replace(batch, public_examples=own)], {})
    assert re.search(r"right for about (\d+) % of a batch \(3 rehearsals on digits\)$", line)
    few = PublicExamples(*digits.batch(range(3)), "digits")
    assert "8 rehearsals on noise" in label_notes([replace(batch, public_examples=few)], {})[0]


def test_a_scheme_is_rehearsed_once(digits, monkeypatch):
    asked = []
    monkeypatch.setattr(label_rehearsal, "expected_share", lambda *given: asked.append(given) or 0.5)
    rehearsed, problems = {}, [posed(digits, range(2)), posed(digits, range(2, 4)), posed(digits, [1, 2], "qsgd")]
    first = label_notes(problems, rehearsed)
    assert first == label_notes(problems, rehearsed)
    assert len(asked) == len(first) == 2


def test_rounds_that_are_not_rehearsed_say_so_and_labels_that_are_refused_say_why(digits):
    steps = posed(digits, range(4), local_steps=2, local_batch=2, lr=0.1)
    assert "rounds like this one are not rehearsed" in label_notes([steps], {})[0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
    view = capture(model, *digits.batch([0, 1]), targets_known=False)
    assert label_notes([pose(view, "naive")], {})[0].startswith("none: labels cannot be inferred: no parameter of")


def test_yes_or_no_labels_are_rehearsed(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    task, inputs = Task(Numbers((6,)), BinaryCrossEntropy()), torch.randn(8, 6)
    view = capture(model, inputs, (inputs[:, :1] > 0).float(), task=task, targets_known=False)
    (line,) = label_notes([pose(view, "adaptive")], {})
    assert re.search(r"right for about (9\d|100) % of a batch \(4 rehearsals on noise", line)


def test_guesses_and_audits_carry_the_lines(digits, tmp_path):
    view = capture(network(), *digits.batch([0, 1]), targets_known=False)
    assert any("labels are estimates, right for about" in note for note in invert(view, iterations=1).notes)
    quick = {"samples": 2, "batch": 2, "attacks": ("iga:iterations=1",), "schemes": ("none",), "knowledge": "naive"}
    folder = audit(AuditSettings(**quick, labels="inferred"), tmp_path / "audit")
    notes = json.loads((folder / "config.json").read_text())["notes"]
    assert sum("labels are estimates" in note for note in notes) == 1
