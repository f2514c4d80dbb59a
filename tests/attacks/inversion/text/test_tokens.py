import pytest
import torch

import gradwire
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.text.rows import read
from gradwire.errors import GradwireError

from .worlds import tiny

EXACT = ["none", "powersgd:rank=1", "powersgd:rank=4", "signsgd", "topk:ratio=0.5", "qsgd:bits=8,bucket=16"]


def scored(world, rows, scheme="none", attack="tokens", knowledge="adaptive", fellows=()):
    guess = gradwire.invert(world.view(rows, scheme, fellows), attack, knowledge)
    held = [*rows, *(row for each in fellows for row in each)][: guess.inputs.shape[1]]
    return guess, {k: float(v) for k, v in world.task.domain.score(guess.inputs, world.inputs[held][None]).items()}


@pytest.mark.parametrize("scheme", EXACT)
@pytest.mark.parametrize("rows", [[0], [3, 4, 5]], ids=str)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_every_scheme_gives_away_which_tokens_were_inputs(kind, rows, scheme):
    world = tiny(kind, vocabulary=400)
    guess, _ = scored(world, rows, scheme)
    found = set(guess.inputs.unique().tolist()) - {0}
    sentences = [[token for token in row if token > 3] for row in world.inputs[rows].tolist()]
    inputs = {token for row in sentences for token in (row if kind == "bert" else row[:-1])}
    assert inputs <= found
    assert len(found - inputs) <= (0 if kind == "bert" else len(rows))


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=4"])
def test_a_last_token_that_is_a_target_only_is_read_from_the_head(scheme):
    world = tiny("gpt2", vocabulary=400)
    for row in range(6):
        _, scores = scored(world, [row], scheme)
        assert (scores["distinct_precision"], scores["distinct_recall"]) == (1, 1)


def test_who_takes_signs_for_a_gradient_learns_nothing():
    world = tiny(vocabulary=400, sentences=20)
    naive = [scored(world, [row], "signsgd", knowledge="naive")[1]["distinct_precision"] for row in range(20)]
    assert sum(naive) / 20 < 0.1


def test_orthonormal_columns_show_the_naive_rows_that_are_zero():
    world = tiny(vocabulary=400)
    naive, adaptive = (scored(world, [0], "powersgd:rank=8", knowledge=k)[1] for k in ("naive", "adaptive"))
    assert naive["distinct_precision"] < adaptive["distinct_precision"] == 1


@pytest.mark.parametrize("rows", [[0], [1, 2]], ids=str)
def test_tied_tables_give_the_tokens_to_who_knows_their_number(rows):
    world = tiny("gpt2", vocabulary=400, tied=True)
    distinct = len(set(world.inputs[rows].unique().tolist()) - {0})
    guess, scores = scored(world, rows, attack=f"tokens:distinct={distinct}")
    assert scores["distinct_precision"] == scores["distinct_recall"] == 1
    assert any("is assumed to be known" in note for note in guess.notes)
    guess, scores = scored(world, rows)
    assert scores["distinct_recall"] > 0.8
    assert any("by the largest gap" in note for note in guess.notes)


def test_a_secure_sum_gives_the_union_and_says_that_it_is_nobodys():
    world = tiny(vocabulary=400)
    guess, scores = scored(world, [0], "sga", fellows=([1], [2], [3]))
    assert guess.inputs.shape == (1, 4, 12)
    assert scores["distinct_precision"] == scores["distinct_recall"] == 1
    assert any("mean over 4 clients" in note and "nobody's in particular" in note for note in guess.notes)
    alone, _ = scored(world, [0], fellows=([1], [2], [3]))
    assert not any("nobody's" in note for note in alone.notes)


def test_noise_below_the_rows_hides_none_and_above_them_all():
    world = tiny(vocabulary=400)
    _, scores = scored(world, [0], "noise:std=1e-9")
    assert scores["distinct_precision"] == scores["distinct_recall"] == 1
    guess, _ = scored(world, [0], "noise:std=100.0")
    assert len(set(guess.inputs.unique().tolist()) - {0}) <= 3


def test_a_gradient_of_zeros_is_an_answer_without_tokens():
    view = tiny().view([0], "topk:ratio=0.0005")
    guess = gradwire.invert(view, "tokens")
    name = "bert.embeddings.word_embeddings.weight"
    rows = read(pose(view, "adaptive").measurement.get(name, ()), (50, 16))
    if not len(rows.active):
        assert bool(guess.objective.isinf().all())
        assert guess.lost == 1
    assert bool((guess.inputs >= 0).all())


def test_the_answer_does_not_depend_on_the_truth_after_the_capture():
    world = tiny(vocabulary=400)
    for knowledge in ("naive", "adaptive"):
        inputs = world.inputs[:2].clone()
        view = gradwire.capture(world.model, inputs, world.targets[:2], "powersgd:rank=4", task=world.task, mode="eval")
        before = gradwire.invert(view, "tokens", knowledge)
        inputs.fill_(7)
        after = gradwire.invert(view, "tokens", knowledge)
        assert torch.equal(before.inputs, after.inputs)
        assert torch.equal(before.objective, after.objective)


def test_a_negative_number_of_tokens_is_refused():
    with pytest.raises(GradwireError, match="distinct is -1"):
        gradwire.invert(tiny().view([0]), "tokens:distinct=-1")


def test_victims_are_attacked_one_by_one():
    world = tiny(vocabulary=400)
    together = gradwire.invert([world.view([row]) for row in range(3)], "tokens")
    for row in range(3):
        assert torch.equal(together.inputs[row], gradwire.invert(world.view([row]), "tokens").inputs[0])
