"""Sentences as tokens: what is refused, how a network is called, and scores with known answers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, NextToken, Task, Tokens
from gradwire.tasks.given_losses import OwnLoss
from gradwire.tasks.rouge import rouge, shared
from gradwire.tasks.tokens import OPEN

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", " the", " cat", " sat", " on", " mat", "s", ".")
DOMAIN = Tokens(8, WORDS, pad=0, first=1, last=2, usual=(4, 10, 5))
PAD, CLS, SEP, _, THE, CAT, SAT, ON, MAT, S, DOT = range(11)


def sentences(*rows):
    return torch.stack([torch.tensor([*row, *[PAD] * (8 - len(row))]) for row in rows])


TRUTH = sentences([CLS, THE, CAT, SAT, ON, THE, MAT, SEP], [CLS, CAT, S, SAT, DOT, SEP])


def scores(guess, truth=TRUTH):
    return {name: value.tolist() for name, value in DOMAIN.score(guess[None], truth[None]).items()}


def test_the_truth_has_every_point():
    assert scores(TRUTH) == {name: [1.0] for name in DOMAIN.scores}
    assert bool(DOMAIN.success(DOMAIN.score(TRUTH[None], TRUTH[None])))


def test_scores_of_a_guess_by_hand():
    # Of ten counted tokens, the first sentence has five in their places and one wrong, the second has two of four.
    guess = sentences([CLS, THE, CAT, SAT, ON, THE, CAT, SEP], [CLS, CAT, OPEN, OPEN, DOT, SEP])
    found = scores(guess)
    assert found["positions"] == [7 / 10]
    # Eight guessed: the ×2, cat ×3, sat, on, dot; the third cat is not in the batch.
    assert found["token_precision"] == [7 / 8]
    assert found["token_recall"] == [7 / 10]
    assert found["distinct_precision"] == [1.0]
    assert found["distinct_recall"] == [5 / 7]
    assert found["exact"] == [0.0]
    # "the cat sat on the cat" shares five words of six; "cat .": "cats sat." has neither word.
    assert found["rouge1"] == pytest.approx([5 / 6 / 2])
    assert found["rouge2"] == pytest.approx([4 / 5 / 2])
    assert found["rougeL"] == pytest.approx([5 / 6 / 2])


def test_what_everybody_knows_is_worth_nothing():
    guess = sentences([CLS, *[OPEN] * 6, SEP], [CLS, *[OPEN] * 4, SEP])
    assert scores(guess) == {name: [0.0] for name in DOMAIN.scores}
    assert not bool(DOMAIN.success(DOMAIN.score(guess[None], TRUTH[None])))


def test_exact_is_of_whole_sentences_and_their_ends():
    longer = TRUTH.clone()
    longer[1, 5], longer[1, 6] = DOT, SEP
    found = scores(longer)
    assert found["exact"] == [0.5]
    assert found["positions"] == [1.0]
    assert found["token_precision"][0] == 10 / 11


def test_rouge_of_the_papers_example():
    # Lin 2004, section 3.1: of "police killed the gunman", "police kill the gunman" has 3 of 4 words in order.
    assert rouge("police kill the gunman", "police killed the gunman") == pytest.approx(
        {"rouge1": 0.75, "rouge2": 1 / 3, "rougeL": 0.75}
    )
    assert rouge("the gunman kill police", "police killed the gunman")["rougeL"] == pytest.approx(0.5)
    assert rouge("Police, killed: THE gunman!", "police killed the gunman")["rouge2"] == pytest.approx(1)
    assert rouge("", "police") == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_tokens_are_shared_both_ways(one, other):
    precision, recall = shared(one, other)
    assert (recall, precision) == shared(other, one)
    assert precision * len(one) == pytest.approx(recall * len(other))


def test_guesses_are_matched_to_the_sentences_that_they_are_like():
    guess = sentences([CLS, CAT, OPEN, SAT, DOT, SEP], [CLS, THE, CAT, OPEN, ON, OPEN, MAT, SEP])
    assert torch.equal(DOMAIN.matched(guess[None], TRUTH[None])[0], guess.flip(0))
    assert torch.equal(DOMAIN.matched(TRUTH.flip(0)[None], TRUTH[None])[0], TRUTH)
    assert DOMAIN.distance(TRUTH, TRUTH).diagonal().tolist() == [0.0, 0.0]


def test_text_and_cells_are_what_people_read():
    assert DOMAIN.text(TRUTH[1]) == "cats sat."
    guess = sentences([CLS, CAT, OPEN, SAT, DOT, SEP])
    assert DOMAIN.text(guess[0]) == "cat · sat."
    assert [cell.text for cell in DOMAIN.cells(guess)[0]] == ["[CLS]", " cat", "·", " sat", ".", "[SEP]"]
    assert DOMAIN.right(guess, TRUTH[1:]) == [[True, True, False, True, True, True]]
    assert [len(row) for row in DOMAIN.right(TRUTH.flip(0), TRUTH)] == [len(row) for row in DOMAIN.cells(TRUTH.flip(0))]
    gap = sentences([CLS, PAD, SAT])
    assert [cell.text for cell in DOMAIN.cells(gap)[0]] == ["[CLS]", "·", " sat"]
    assert DOMAIN.cells(sentences([])) == [[]]


def test_who_knows_nothing_answers_the_usual_tokens():
    assert DOMAIN.uninformed().tolist() == [CLS, THE, DOT, CAT, SEP, PAD, PAD, PAD]
    assert Tokens(8, WORDS).uninformed() is None
    assert Tokens(2, WORDS, usual=(4, 10, 5)).uninformed().tolist() == [THE, DOT]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (sentences([CLS, 11]), "token 11 is outside the vocabulary; it must be from 0 to 10"),
        (sentences([CLS, OPEN]), "token -1 is outside the vocabulary"),
        (sentences([CLS, CAT], []), "sentence 1 is empty"),
        (sentences([CLS, PAD, CAT]), "sentence 0 has padding before its end"),
        (torch.ones(1, 9, dtype=torch.int64), "a sentence of 9 tokens is longer than the model's 8 positions"),
        (torch.ones(1, 8), "must be int64"),
    ],
)
def test_batches_outside_the_domain_are_refused_in_one_line(inputs, words):
    with pytest.raises(GradwireError) as caught:
        DOMAIN.check(inputs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Bag(nn.Module):
    """Scores of the mean token."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(11, 4), nn.Linear(4, 2)

    def forward(self, tokens):
        return self.head(self.table(tokens).mean(1))


class Masked(Bag):
    def forward(self, tokens, attention_mask):
        held = self.table(tokens) * attention_mask[..., None]
        return {"logits": self.head(held.sum(1) / attention_mask.sum(1, keepdim=True))}


def test_padding_needs_a_network_that_takes_a_mask():
    task = Task(DOMAIN, CrossEntropy(("a", "b")))
    with pytest.raises(GradwireError, match="Bag takes no attention_mask, and sentences are filled up with token 0"):
        task.output(Bag(), TRUTH)
    assert task.output(Bag(), TRUTH[:1]).shape == (1, 2)
    assert task.logits(Masked(), TRUTH).shape == (2, 2)


def test_positions_that_no_sentence_reaches_are_left_out_and_change_nothing():
    task, model = Task(DOMAIN, CrossEntropy(("a", "b"))), Masked().double()
    assert DOMAIN.reached(TRUTH[1:]).shape == (1, 6)
    assert Tokens(8, WORDS, pad=None).reached(TRUTH).shape == TRUTH.shape
    torch.testing.assert_close(task.logits(model, TRUTH)[1], task.logits(model, TRUTH[1:])[0])
    together = torch.func.vmap(lambda x: task.logits(model, x))(TRUTH[:, None])
    torch.testing.assert_close(together[:, 0], task.logits(model, TRUTH))


def test_the_next_token_is_counted_up_to_a_sentences_end():
    loss, model = NextToken(PAD), nn.Embedding(11, 11)
    targets = loss.derived(TRUTH)
    scores = model(TRUTH)
    due = [(row[k], row[k + 1]) for row in TRUTH.tolist() for k in range(7) if row[k + 1] != PAD]
    by_hand = -sum(model.weight[now].log_softmax(0)[then] for now, then in due) / len(due)
    torch.testing.assert_close(loss(scores, targets), by_hand)
    # Positions of padding alone may be missing; those of words may not.
    torch.testing.assert_close(loss(scores[1:, :6], targets[1:]), loss(scores[1:], targets[1:]))
    loss.suits(scores[1:, :6], targets[1:])
    with pytest.raises(GradwireError, match="scores of 6 positions, and sentences have more"):
        loss.suits(scores[:, :6], targets)
    with pytest.raises(GradwireError, match="token 10 is out of range; the model has scores of tokens 0 to 7"):
        loss.suits(scores[..., :8], targets)
    with pytest.raises(GradwireError, match="no counted target"):
        loss.check(loss.derived(sentences([CLS])), 1)
    assert math.isfinite(float(loss.measures(scores, targets)["accuracy"].sum()))


def test_a_users_loss_of_tokens_gets_every_position():
    def own(output, targets):
        assert output.shape[:2] == targets.shape
        return output.sum()

    class Each(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 11)

        def forward(self, input_ids, attention_mask):
            return self.table(input_ids)

    loss = NextToken(PAD)
    Task(DOMAIN, OwnLoss(loss, of=own)).value(Each(), TRUTH[1:], loss.derived(TRUTH[1:]))
