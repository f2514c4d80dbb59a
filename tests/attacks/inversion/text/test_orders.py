import pytest
import torch

import gradwire
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.text.candidates import Candidates
from gradwire.attacks.inversion.text.embedding import trace
from gradwire.attacks.inversion.text.order_search import EXPLAINED
from gradwire.errors import GradwireError

from .worlds import tiny

SCHEMES = ["none", "powersgd:rank=1", "powersgd:rank=4", "signsgd", "topk:ratio=0.3", "qsgd:bits=6,bucket=16"]


def judged(kind, scheme, batch, **options):
    """What candidates for a batch are judged by, and the true sentences (B, n)."""
    world = tiny(kind, **options)
    rows = list(range(batch))
    truth = world.inputs[rows][:, : int((world.inputs[rows] > 0).sum(1).max())]
    tables, problem = trace(world.model, world.task), pose(world.view(rows, scheme), "adaptive")
    tokens = truth.unique()[truth.unique() > 0]
    return Candidates.of(problem, tables, tokens, truth.shape[1] - (kind != "bert")), truth


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_truth_explains_what_was_sent_and_another_order_does_not(kind, scheme, batch):
    candidates, truth = judged(kind, scheme, batch)
    other = truth.clone()
    other[0, 1], other[0, 3] = truth[0, 3], truth[0, 1]
    found = candidates.judge(torch.stack([truth, other]))
    if "qsgd" in scheme:
        # The levels to which entries were rounded are no gradient's: the truth is nearest to them, not there.
        assert float(found.value[0]) < float(found.value[1])
        return
    assert float(found.value[0]) < EXPLAINED / 10
    if scheme != "signsgd":
        assert float(found.value[1]) > 10 * EXPLAINED
    assert float(found.value[0]) <= float(found.value[1])


def test_tied_tables_are_judged_with_what_the_head_adds():
    candidates, truth = judged("gpt2", "powersgd:rank=2", 1, tied=True)
    other = truth.flip(1)
    found = candidates.judge(torch.stack([truth, other])).value
    assert float(found[0]) < EXPLAINED / 10 < float(found[1])


def test_candidates_side_by_side_are_judged_as_each_alone():
    candidates, truth = judged("gpt2", "powersgd:rank=2", 2)
    several = torch.stack([truth, truth.roll(1, 1) * (truth > 0), truth])
    together = candidates.judge(several)
    for place, each in enumerate(several):
        alone = candidates.judge(each[None])
        assert torch.allclose(together.value[place], alone.value[0], rtol=1e-3, atol=1e-5)


def exact(kind, row, scheme, knowledge="adaptive", attack="sentences:evaluations=4000", **options):
    world = tiny(kind, vocabulary=200, **options)
    guess = gradwire.invert(world.view([row], scheme), attack, knowledge)
    return torch.equal(guess.inputs[0, 0], world.inputs[row]), float(guess.objective[0]), guess


@pytest.mark.parametrize(
    "scheme", ["none", "powersgd:rank=1", "powersgd:rank=4", "topk:ratio=0.3", "randomk:ratio=0.5"]
)
def test_a_sentence_is_found_from_beginning_to_end(scheme):
    for row in range(4):
        right, strain, guess = exact("bert", row, scheme)
        assert right
        assert strain < EXPLAINED
        assert guess.notes[0] == "sentences: 1 of 1 answers explain all that was sent"


@pytest.mark.parametrize(("scheme", "options"), [("none", {}), ("powersgd:rank=4", {}), ("none", {"tied": True})])
def test_a_causal_networks_sentence_is_found_with_its_last_token(scheme, options):
    attack = "sentences:evaluations=6000"
    found = [exact("gpt2", row, scheme, attack=attack, **options) for row in range(3)]
    assert sum(right for right, _, _ in found) >= 2
    assert all(strain < EXPLAINED for right, strain, _ in found if right)


def test_who_takes_the_sketch_for_a_gradient_does_not_find_it():
    right, strain, guess = exact("bert", 1, "powersgd:rank=1", "naive", "sentences:evaluations=500")
    assert not right
    assert strain > 100 * EXPLAINED
    assert guess.notes[0] == "sentences: 0 of 1 answers explain all that was sent"


def test_a_seed_decides_and_the_truth_after_the_capture_does_not():
    world = tiny("gpt2", vocabulary=200)
    for knowledge in ("naive", "adaptive"):
        inputs = world.inputs[:2].clone()
        view = gradwire.capture(world.model, inputs, world.targets[:2], "powersgd:rank=2", task=world.task, mode="eval")
        before = gradwire.invert(view, "sentences:evaluations=400", knowledge, seed=3)
        inputs.fill_(7)
        torch.manual_seed(9)
        after = gradwire.invert(view, "sentences:evaluations=400", knowledge, seed=3)
        assert torch.equal(before.inputs, after.inputs)
        assert torch.equal(before.objective, after.objective)


def test_effort_is_bounded_and_reported():
    world, told = tiny("bert", vocabulary=200), []
    view = world.view([0, 1, 2], "powersgd:rank=1")
    from gradwire.attacks.inversion.text.orders import Sentences

    guess = Sentences(evaluations=300).run(
        [pose(view, "adaptive")], progress=lambda stage, done, total: told.append((done, total))
    )
    assert 300 <= guess.iterations <= 300 + 1100
    assert told == sorted(told)
    assert told[-1] == (300, 300)
    assert bool((guess.inputs >= 0).all())
    world.task.domain.check(guess.inputs[0])


def test_rounding_and_noise_are_said_to_leave_no_proof():
    world = tiny(vocabulary=200)
    for scheme in ("qsgd", "noise:std=1e-7"):
        guess = gradwire.invert(world.view([0], scheme), "sentences:evaluations=100")
        assert any("no answer explains it all" in note for note in guess.notes)
    guess = gradwire.invert(world.view([0], "powersgd:rank=1"), "sentences:evaluations=100")
    assert not any("no answer explains it all" in note for note in guess.notes)


def test_no_effort_is_refused():
    with pytest.raises(GradwireError, match="evaluations is 0; it must be at least 1"):
        gradwire.invert(tiny().view([0]), "sentences:evaluations=0")


def test_a_search_in_training_mode_leaves_dropout_out_and_draws_nothing_at_random():
    world = tiny("bert", vocabulary=200, dropout=0.1)
    view = gradwire.capture(world.model, world.inputs[:1], world.targets[:1], task=world.task, mode="train")
    state = torch.get_rng_state()
    first = gradwire.invert(view, "sentences:evaluations=200")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.inputs, gradwire.invert(view, "sentences:evaluations=200").inputs)
