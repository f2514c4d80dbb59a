"""Many rehearsals at once: they are the rounds that would be run, of the adversary's own examples."""

from collections.abc import Sequence

import pytest
import torch

from gradwire import models
from gradwire.attacks.inversion import rehearsals as module
from gradwire.attacks.inversion.learned.sketch import blocks, numbers
from gradwire.attacks.inversion.rehearsals import batched, chunk, rehearsals
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.schemes import Layout
from gradwire.schemes.measurement import Dense
from tests.attacks.inversion.own_images import owned, problems


@pytest.fixture(scope="module")
def model(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def sent(problem, own) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Everything that is sent in the rehearsals of a problem, (N, numbers), their inputs and targets."""
    layout, rows = Layout.of_model(problem.view.model), list(rehearsals(problem, own))
    of = blocks(rows[0].measurements, layout)
    held = [numbers(measurement, of) for row in rows for measurement in row.measurements]
    return torch.cat(held), torch.cat([row.inputs for row in rows]), torch.cat([row.targets for row in rows])


@pytest.mark.parametrize("options", [{}, {"fellows": 2}, {"batch": 2}], ids=["alone", "in company", "of two"])
@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.1", "powersgd", "signsgd"])
def test_a_rule_gives_what_rounds_one_by_one_give(monkeypatch, model, digits, scheme, options):
    own = owned(7)
    (problem,) = problems(model, digits, scheme, own, victims=[0], **options)
    assert batched(problem)
    at_once = sent(problem, own)
    monkeypatch.setattr(module, "batched", lambda problem: False)
    for found, due in zip(at_once, sent(problem, own), strict=True):
        torch.testing.assert_close(found, due, rtol=1e-4, atol=1e-5)


def test_a_secure_sum_is_the_mean_of_what_is_sought(model, digits):
    own = owned(5)
    (problem,) = problems(model, digits, "sga", own, victims=[0], fellows=1)
    assert not batched(problem)
    found, inputs, targets = sent(problem, own)
    assert inputs.shape == (5, 2, *digits.shape)
    view = problem.view
    means = engine(view.model, view.mode, view.task, 2).gradients(inputs, targets)
    due = torch.cat([g.full().flatten(1) for g in means.values()], 1)
    torch.testing.assert_close(found, due.detach(), rtol=1e-3, atol=1e-5)


def test_every_example_is_a_victims_first_once(model, digits):
    own = owned(20)
    (problem,) = problems(model, digits, "none", own, victims=[0], batch=2)
    _, inputs, targets = sent(problem, own)
    found = {tuple(image.flatten().tolist()) for image in inputs[:, 0]}
    assert found == {tuple(image.flatten().tolist()) for image in own.inputs}
    assert torch.equal(own.targets.sort().values, targets[:, 0].sort().values)


def test_the_seed_decides(model, digits):
    own = owned(10)
    (problem,) = problems(model, digits, "noise:std=0.1", own, victims=[0])
    first, again, other = ([*rehearsals(problem, own, seed)] for seed in (0, 0, 1))

    def noise(rows: Sequence[module.Rehearsed]) -> torch.Tensor:
        return next(iter(rows[0].measurements[0].values()))[0].observed

    assert torch.equal(noise(first), noise(again))
    assert not torch.equal(noise(first), noise(other))


def test_the_naive_adversary_rehearses_plain_gradients(model, digits):
    own = owned(6)
    (naive,) = problems(model, digits, "signsgd", own, victims=[0], knowledge="naive")
    (plain,) = problems(model, digits, "none", own, victims=[0])
    (measurement,) = next(iter(rehearsals(naive, own))).measurements
    assert all(isinstance(term, Dense) for terms in measurement.values() for term in terms)
    torch.testing.assert_close(sent(naive, own)[0], sent(plain, own)[0])


def test_inferred_targets_are_in_the_order_in_which_they_are_inferred(model, digits):
    own = owned(12)
    (problem,) = problems(model, digits, "none", own, victims=[0], batch=3, targets_known=False)
    _, inputs, targets = sent(problem, own)
    assert torch.equal(targets, targets.sort(1).values)
    labels = {tuple(image.flatten().tolist()): int(label) for image, label in zip(own.inputs, own.targets, strict=True)}
    assert [labels[tuple(x.flatten().tolist())] for x in inputs.flatten(0, 1)] == targets.flatten().tolist()


def test_chunks_change_nothing(monkeypatch, model, digits):
    own = owned(9)
    (problem,) = problems(model, digits, "topk:ratio=0.1", own, victims=[0])
    whole = sent(problem, own)
    monkeypatch.setattr(module, "CHUNK", 4)
    assert chunk(problem) == 4
    for found, due in zip(sent(problem, own), whole, strict=True):
        torch.testing.assert_close(found, due)


@pytest.mark.parametrize(
    ("scheme", "options", "said"),
    [
        ("dpsgd", {}, "hooks into local steps"),
        ("precode", {}, "trains a network of its own"),
        ("none", {"local_steps": 2, "local_batch": 1, "batch": 2}, "clients did local work"),
        ("none", {"fellows": 1, "weights": (1, 3)}, "weights are"),
        ("none", {"batch": 8}, "has 7 images; one rehearsal takes 8"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(model, digits, scheme, options, said):
    own = owned(7)
    (problem,) = problems(model, digits, scheme, own, victims=[0], **options)
    with pytest.raises(GradwireError, match=said):
        next(iter(rehearsals(problem, own)))
