"""The attack that tries every closed form and says what it proved."""

import dataclasses

import pytest
import torch

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import Exact, pose
from gradwire.errors import GradwireError
from gradwire.registry import ATTACKS
from tests.attacks.inversion.exact.networks import transformer
from tests.attacks.inversion.text import small as text


@pytest.fixture(scope="module")
def mlp(digits):
    return models.build("mlp", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def attacked(model, digits, schemes, batch=4, start=0, knowledge="adaptive", **options):
    images, labels = digits.batch(range(start, start + batch))
    views = [gradwire.capture(model, images, labels, scheme, mode="eval", **options) for scheme in schemes]
    return gradwire.invert(views, "exact", knowledge), images


def test_each_victim_is_said_to_be_solved_or_not(mlp, digits):
    schemes = ("none", "powersgd:rank=4", "powersgd:rank=2", "topk:ratio=0.1", "noise:std=0.001", "signsgd")
    guess, images = attacked(mlp, digits, schemes)
    off = (gradwire.score(guess.inputs, images.expand(len(schemes), -1, -1, -1, -1)).inputs - images).abs()
    assert guess.solved == (True, True, False, False, False, False)
    assert [bool(each < 2e-3) for each in off.flatten(1).amax(1)] == list(guess.solved)
    assert bool(((guess.objective < 1e-6) == torch.tensor(guess.solved)).all())
    assert not guess.lost
    for scheme in schemes:
        assert sum(note.startswith(f"{scheme}: Of the gradient of 4 examples.") for note in guess.notes) == 1


def test_naive_adversaries_solve_what_decodes_to_the_gradient(mlp, digits):
    guess, _ = attacked(mlp, digits, ("none", "powersgd:rank=4", "topk:ratio=0.1"), knowledge="naive")
    assert guess.solved == (True, True, False)


@pytest.mark.parametrize("start", [17, 34, 35, 49, 157, 286, 290])
def test_batches_of_which_single_activations_tell_a_part_are_whole(mlp, digits, start):
    images, labels = digits.batch(range(start, start + 4))
    view = gradwire.capture(mlp, images, labels)
    rows = gradwire.score(gradwire.invert(view, "analytic").inputs, images[None]).inputs[0]
    assert ((rows - images).abs().flatten(1).amax(1) > 0.1).sum() == 1
    guess = gradwire.invert(view, "exact")
    assert guess.solved == (True,)
    torch.testing.assert_close(gradwire.score(guess.inputs, images[None]).inputs[0], images, atol=1e-3, rtol=0)


def test_one_image_and_its_label(mlp, digits):
    guess, images = attacked(mlp, digits, ("none", "powersgd:rank=1"), batch=1, targets_known=False)
    assert guess.solved == (True, True)
    assert (guess.targets == digits.batch([0])[1]).all()
    torch.testing.assert_close(guess.inputs[1], images, atol=1e-3, rtol=0)


def test_a_vision_transformer(digits):
    guess, images = attacked(transformer(), digits, ("none", "powersgd:rank=2"), batch=1)
    assert guess.solved == (True, False)
    torch.testing.assert_close(guess.inputs[0], images, atol=1e-3, rtol=0)
    assert "exact: april solved 1 of 2 victims" in guess.notes
    assert any("april does not explain what was sent: 36 of 64 numbers" in note for note in guess.notes)


def test_networks_without_a_closed_form_are_refused(model, digits):
    with pytest.raises(GradwireError, match="exact knows no closed form for this network: analytic needs"):
        attacked(model, digits, ("none",))
    tokens = text.written([list(range(5, 11))])
    view = gradwire.capture(text.GPT2, tokens, text.TASK.loss.derived(tokens), task=text.TASK, mode="eval")
    with pytest.raises(GradwireError, match=r"solves for numbers; .* hold none; try dager"):
        gradwire.invert(view, "exact")


def test_what_cannot_be_checked_is_not_solved():
    table = data.load("diabetes")
    view = gradwire.capture(table.network("mlp:hidden=100", 0), *table.batch([0]), task=table.task)
    assert gradwire.invert(view, "exact").solved == (True,)
    guess = gradwire.invert(dataclasses.replace(view, targets=None), "exact")
    assert guess.solved == (False,)
    torch.testing.assert_close(guess.inputs[0], table.batch([0])[0], atol=1e-4, rtol=1e-5)
    assert any("it cannot be checked: targets of the loss" in note for note in guess.notes)


@pytest.mark.parametrize("network", ["mlp", "vit"])
def test_the_truth_does_not_reach_it(mlp, digits, network):
    """Bit-identical guesses when the truth is replaced after capture."""
    batch, model = (4, mlp) if network == "mlp" else (1, transformer())
    images, labels = (t.clone() for t in digits.batch(range(batch)))
    view = gradwire.capture(model, images, labels, "powersgd:rank=4", mode="eval", targets_known=False)
    before = gradwire.invert(view, "exact")
    images.fill_(0.5)
    labels.zero_()
    after = gradwire.invert(view, "exact")
    assert before.solved == after.solved == (True,)
    assert torch.equal(before.inputs, after.inputs)
    assert torch.equal(before.targets, after.targets)
    assert torch.equal(before.objective, after.objective)


def test_its_rounds_are_part_of_its_spec(mlp, digits):
    assert ATTACKS.spec(ATTACKS.parse("exact:rounds=5")) == "exact:rounds=5"
    with pytest.raises(GradwireError, match="rounds is 0; it must be at least 1"):
        Exact(rounds=0)
    problem = pose(gradwire.capture(mlp, *digits.batch(range(4)), "noise:std=0.001", mode="eval"), "adaptive")
    assert Exact(rounds=1).run([problem]).solved == (False,)
