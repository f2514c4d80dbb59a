"""The strongest attack: which of its parts' answers counts, and that it is chosen without the truth."""

from dataclasses import replace

import pytest
import torch

import gradwire
from gradwire import models
from gradwire.attacks.inversion import Guess, PublicExamples, Strongest, pose, strongest
from gradwire.errors import GradwireError
from tests.attacks.inversion.text import small as text

SHORT = Strongest(iterations=24)


@pytest.fixture(scope="module")
def mlp(digits):
    return models.build("mlp", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def posed(network, digits, schemes, batch=1, own=0, **options):
    views = [gradwire.capture(network, *digits.batch(range(batch)), each, mode="eval", **options) for each in schemes]
    examples = PublicExamples(*digits.batch(range(100, 100 + own)), "digits") if own else None
    return [replace(pose(view, "adaptive", salt), public_examples=examples) for salt, view in enumerate(views)]


def test_an_answer_that_is_proved_counts(mlp, digits):
    guess = SHORT.run(posed(mlp, digits, ("powersgd:rank=4", "powersgd:rank=1"), batch=4))
    assert guess.solved == (True, False)
    assert torch.equal(guess.inputs[0], guess.parts["exact"].inputs[0])
    assert torch.equal(guess.inputs[1], guess.parts["annealed"].inputs[1])
    assert torch.isnan(guess.value(guess.inputs)).tolist() == [True, False]


def test_what_is_not_proved_is_left_to_what_promises_most(model, digits, monkeypatch):
    monkeypatch.setattr(strongest, "TAUGHT", 60)
    guess = SHORT.run(posed(model, digits, ("none", "topk:ratio=0.02"), own=64))
    assert set(guess.parts) == {"annealed", "learned", "annealed-from-learned"}
    for row in range(2):
        promised = {name: part.expected[row] for name, part in guess.parts.items()}
        best = max(promised, key=promised.get)
        assert torch.equal(guess.inputs[row], guess.parts[best].inputs[row])
        assert guess.expected[row] == promised[best]


def test_images_that_are_rehearsed_on_take_no_part_in_the_training(model, digits, monkeypatch):
    monkeypatch.setattr(strongest, "TAUGHT", 60)
    problems = posed(model, digits, ("none",), own=64)
    other = PublicExamples(problems[0].public_examples.inputs.clone(), problems[0].public_examples.targets, "digits")
    other.inputs[:4] = 0.5
    answers = [SHORT.run([replace(problems[0], public_examples=own)]) for own in (problems[0].public_examples, other)]
    assert torch.equal(*(answer.parts["learned"].inputs for answer in answers))
    assert answers[0].parts["learned"].expected != answers[1].parts["learned"].expected


def test_why_a_part_did_not_run_is_said(model, digits):
    guess = SHORT.run(posed(model, digits, ("none",)))
    assert any(note.startswith("strongest goes without exact: exact knows no closed form") for note in guess.notes)


def test_several_local_steps_are_simulated(digits):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    guess = SHORT.run(posed(network, digits, ("none",), batch=2, local_steps=2, local_batch=1, lr=0.1))
    assert next(iter(guess.parts)) == "fedavg"
    assert torch.equal(guess.inputs, guess.parts["fedavg"].inputs)


def test_where_no_part_applies_the_first_ones_reason_is_given():
    tokens = text.written([list(range(5, 11))])
    view = gradwire.capture(text.GPT2, tokens, text.TASK.loss.derived(tokens), task=text.TASK, mode="eval")
    with pytest.raises(GradwireError, match=r"annealed follows slopes, which .* do not have; try sentences"):
        SHORT.run([pose(view, "adaptive")])


def test_the_choice_follows_the_promise_and_not_the_objective():
    image, label = torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, dtype=torch.int64)

    def part(expected, objective, **others):
        return Guess(image, label, torch.tensor([objective]), 1, expected=(expected,), **others)

    parts = {"annealed": part(0.4, 0.1), "learned": part(0.6, 0.9)}
    assert strongest._strongest(parts, 0) == "learned"
    assert strongest._strongest(parts | {"exact": part(None, 0.0, solved=(True,))}, 0) == "exact"
    assert strongest._strongest(parts | {"exact": part(None, 0.0, solved=(False,))}, 0) == "learned"
    assert strongest._strongest({"fedavg": part(None, 0.5), **parts}, 0) == "fedavg"
