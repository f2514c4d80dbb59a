"""Sentences from the spans of layers' inputs: known answers, adapters, what is refused."""

import copy

import pytest
import torch
from torch import nn

import gradwire
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, NextToken, Task
from tests.attacks.inversion.text import networks
from tests.attacks.inversion.text.small import BERT, GPT2, LENGTH, TASK, VOCABULARY, classified, domain, drawn, written


def attacked(model, sentences, scheme="none", knowledge="adaptive", **options):
    inputs, targets = written(sentences, pair=True)
    view = gradwire.capture(model, inputs, targets, scheme, task=TASK, mode="eval")
    return gradwire.invert(view, "dager", knowledge, **options)


def rows(inputs):
    return sorted(map(tuple, inputs.tolist()))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sizes", [(9,), (2,), (6, 9), (16, 5, 8, 3)])
def test_batches_of_a_causal_model_are_exact_last_tokens_and_padding_included(sizes, tied):
    model = networks.gpt2(VOCABULARY, LENGTH, 64, tied)
    sentences = drawn(sizes, seed=len(sizes))
    guess = attacked(model, sentences)
    assert rows(guess.inputs[0]) == rows(written(sentences))
    assert guess.objective[0] < 1e-6
    assert "the sentences of 1 of 1 victims explain all" in guess.notes[0]


def test_sentences_that_begin_and_end_alike_are_told_apart():
    sentences = [[5, 6, 7, 8, 9], [5, 6, 10, 8, 9], [11, 6, 7, 8, 9], [5, 6, 7, 12, 9]]
    assert rows(attacked(GPT2, sentences).inputs[0]) == rows(written(sentences))


def test_several_victims_are_attacked_as_each_alone():
    batches = [drawn((7, 6), seed) for seed in (1, 2)]
    views = [
        gradwire.capture(GPT2, *written(each, pair=True), "none", task=TASK, mode="eval", freeze=False)
        for each in batches
    ]
    guess = gradwire.invert(views, "dager")
    for number, each in enumerate(batches):
        assert rows(guess.inputs[number]) == rows(written(each))


def test_sketches_give_a_sentence_with_as_many_vectors_as_tokens_and_with_fewer():
    (sentence,) = drawn((12,), 3)
    whole = attacked(GPT2, [sentence], "powersgd:rank=16")
    assert whole.inputs[0].tolist() == written([sentence]).tolist()
    # 7 vectors of a span of 11: no input lies in it, but only the sentence's inputs span it.
    part = attacked(GPT2, [sentence], "powersgd:rank=7")
    assert part.inputs[0].tolist() == written([sentence]).tolist()
    assert part.objective[0] < 1e-6


def test_signs_give_the_tokens_that_are_inputs():
    (sentence,) = drawn((9,), 4)
    guess = attacked(GPT2, [sentence], "signsgd")
    assert guess.inputs[0, 0, :8].tolist() == sentence[:8]
    assert guess.inputs[0, 0, 8] == -1
    assert "0 of 1 victims explain" in guess.notes[0]


@pytest.mark.parametrize("sizes", [(9,), (8, 8), (6, 9)])
def test_an_encoders_sentences_are_exact(sizes):
    inputs, targets, task = classified(sizes)
    view = gradwire.capture(BERT, inputs, targets, "none", task=task, mode="eval")
    guess = gradwire.invert(view, "dager")
    assert rows(guess.inputs[0]) == rows(inputs)
    assert guess.objective[0] < 1e-4


def test_what_an_encoders_batch_would_take_is_named():
    inputs, targets, task = classified((12, 12, 12))
    view = gradwire.capture(BERT, inputs, targets, "none", task=task, mode="eval")
    guess = gradwire.invert(view, "dager", combinations=30)
    assert "combinations of the tokens that fit each position are more than dager tries (30" in guess.notes[1]


@pytest.mark.parametrize("rank", [6, 16])
def test_adapters_give_a_sentence_of_a_frozen_model(rank):
    model = networks.lora(networks.gpt2(VOCABULARY, LENGTH, 64), rank, ["c_attn"])
    assert not any(p.requires_grad for name, p in model.named_parameters() if "lora" not in name)
    networks.step(model, written(drawn((9, 9), 7)), TASK)
    (sentence,) = drawn((10,), 5)
    guess = attacked(model, [sentence])
    assert guess.inputs[0, 0, :9].tolist() == sentence[:9]
    assert guess.inputs[0, 0, 9] == -1  # its head is frozen, so that nothing shows the last target
    assert guess.objective[0] < 1e-6


def test_at_the_first_step_of_adapters_it_is_said_that_nothing_of_a_is_sent():
    model = networks.lora(networks.gpt2(VOCABULARY, LENGTH, 64), 6, ["c_attn"])
    with pytest.raises(GradwireError, match=r"gradient of '.*lora_A.*' is zero, as LoRA's A has while B is zero"):
        attacked(model, drawn((10,), 5))


def test_at_the_first_step_of_wide_adapters_the_gradient_of_b_is_read():
    model = networks.lora(networks.gpt2(VOCABULARY, LENGTH, 64), 16, ["c_attn"])
    (sentence,) = drawn((10,), 5)
    assert attacked(model, [sentence]).inputs[0, 0, :9].tolist() == sentence[:9]


def test_more_tokens_than_the_width_are_refused():
    model = networks.gpt2(VOCABULARY, LENGTH, 16)
    with pytest.raises(GradwireError, match=r"2 sentences of up to 16 tokens fill the 16 numbers .*'transformer.h.0"):
        attacked(model, drawn((16, 16), 6))


def test_pictures_and_networks_without_linear_layers_are_refused():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    view = gradwire.capture(flat, torch.rand(1, 1, 2, 2), torch.tensor([1]), mode="eval")
    with pytest.raises(GradwireError, match="dager reads sentences, and these are images"):
        gradwire.invert(view, "dager")
    lookup = nn.Embedding(VOCABULARY, VOCABULARY)
    inputs = written(drawn((LENGTH,), 8))
    view = gradwire.capture(lookup, inputs, inputs, task=Task(domain(None), NextToken()), mode="eval")
    with pytest.raises(GradwireError, match="linear layers that receive every token; Embedding has none"):
        gradwire.invert(view, "dager")
    with pytest.raises(GradwireError, match="combinations is 0; it must be at least 1"):
        gradwire.invert(view, "dager:combinations=0")


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=4", "topk:ratio=0.2"])
def test_the_guess_depends_on_the_view_alone(scheme):
    """The same bits come out when what the victim held is overwritten after the capture."""
    inputs, targets = written(drawn((9,), 9), pair=True)
    view = gradwire.capture(GPT2, inputs, targets, scheme, task=TASK, mode="eval")
    before = gradwire.invert(copy.deepcopy(view), "dager")
    inputs.fill_(3)
    targets.fill_(3)
    state = torch.random.get_rng_state()
    after = gradwire.invert(view, "dager")
    assert torch.equal(before.inputs, after.inputs)
    assert torch.equal(before.objective, after.objective)
    assert before.notes == after.notes
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_naive_adversary_reads_the_decoded_update():
    (sentence,) = drawn((9,), 10)
    plain = attacked(GPT2, [sentence], knowledge="naive")
    assert plain.inputs[0].tolist() == written([sentence]).tolist()
    assert attacked(GPT2, [sentence], "topk:ratio=0.01", "naive").objective[0] > 0.1


def test_a_models_task_may_be_of_classes():
    inputs, targets, _ = classified((8,), 11)
    task = Task(domain(0, 1, 2), CrossEntropy(("no", "yes")))
    view = gradwire.capture(BERT, inputs, targets, "none", task=task, mode="eval", targets_known=True)
    assert gradwire.invert(view, "dager").inputs[0].tolist() == inputs.tolist()
