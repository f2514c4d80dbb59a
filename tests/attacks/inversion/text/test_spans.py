"""Which layers receive what, and the spans of their inputs."""

import pytest
import torch
from torch import nn

import gradwire
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.attacks.inversion.text.seen import seen
from gradwire.attacks.inversion.text.spans import columns, span, spanned
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, NextToken, Pixels, Task
from tests.attacks.inversion.text import networks
from tests.attacks.inversion.text.small import BERT, GPT2, LENGTH, TASK, VOCABULARY, classified, domain, written


def traced(model, task=TASK, mode="eval"):
    return TracedNetwork.of(model, task, mode, LENGTH)


def reach(network):
    return {layer.name.removeprefix("transformer.").removeprefix("bert."): layer.reach for layer in network.layers}


def test_a_causal_models_layers_see_a_token_or_what_is_before_it():
    network = traced(GPT2)
    found = reach(network)
    assert found["h.0.attn.c_attn"] == "token"
    assert {found[name] for name in ("h.0.attn.c_proj", "h.0.mlp.c_fc", "h.1.attn.c_attn", "lm_head")} == {"prefix"}
    assert network.causal
    assert network.head.weight == "lm_head.weight"
    assert network.positions == ("transformer.wpe.weight", 0)


def test_an_encoders_layers_see_a_token_or_the_sentence_and_share_inputs():
    network = traced(BERT, classified().task)
    found = reach(network)
    own = [f"encoder.layer.0.attention.self.{name}" for name in ("query", "key", "value")]
    assert {found[name] for name in own} == {"token"}
    assert found["encoder.layer.1.attention.self.query"] == "sentence"
    assert not network.causal
    groups = {layer.group for layer in network.layers if layer.name.removeprefix("bert.") in own}
    assert len(groups) == 1
    assert "pooler" not in str(network.layers)  # it receives one vector a sentence


def test_inputs_are_those_that_a_layer_receives():
    network = traced(GPT2)
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    layer = network.layers[0]
    body = network.model.transformer
    with torch.no_grad():
        expected = body.h[0].ln_1(body.wte(tokens) + body.wpe(torch.arange(tokens.shape[1])))
    torch.testing.assert_close(network.inputs(tokens, [layer])[layer.name], expected)


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=20"])
def test_inputs_lie_in_the_span_and_other_tokens_do_not(scheme):
    inputs = written([[5, 6, 7, 8, 9, 10, 11, 12]])
    view = gradwire.capture(GPT2, inputs, NextToken(0).derived(inputs), scheme, task=TASK, mode="eval")
    network = traced(GPT2)
    spans = seen(network, pose(view, "adaptive"), 1, LENGTH - 1)
    (first,) = spans.first
    assert first.complete
    assert first.tokens == 7
    assert spans.length == 7
    vectors = network.inputs(inputs, first.layers)[first.layers[0].name][0]
    assert (first.distance(vectors[:7]) <= first.tolerance).all()
    assert first.distance(vectors[7:]).min() > 100 * first.tolerance  # the last token is no input
    assert first.unexplained(vectors[:7]) < 1e-8
    assert first.unexplained(vectors[:6]) > 0.1


def test_a_span_that_is_not_seen_whole_says_so():
    inputs = written([[5, 6, 7, 8, 9, 10, 11, 12]])
    targets = NextToken(0).derived(inputs)
    for scheme, tokens, exact in (("powersgd:rank=4", 4, True), ("topk:ratio=0.1", 7, False), ("signsgd", 7, False)):
        view = gradwire.capture(GPT2, inputs, targets, scheme, task=TASK, mode="eval")
        (first,) = seen(traced(GPT2), pose(view, "adaptive"), 1, LENGTH - 1).first
        assert (first.complete, first.tokens, first.exact) == (False, tokens, exact)


def test_columns_of_every_term_lie_where_the_gradient_puts_them():
    inputs, targets, task = classified()
    network = traced(BERT, task)
    layer = network.layers[0]
    plain = pose(gradwire.capture(BERT, inputs, targets, "none", task=task, mode="eval"), "adaptive")
    gradient = plain.measurement[layer.weight][0].observed[0].double()
    assert torch.equal(columns(layer, plain.measurement[layer.weight]), gradient.mT)
    sparse = pose(gradwire.capture(BERT, inputs, targets, "topk:ratio=0.2", task=task, mode="eval"), "adaptive")
    kept = columns(layer, sparse.measurement[layer.weight])
    assert 0 < int((kept != 0).sum()) < kept.numel()
    assert torch.equal(kept, gradient.mT * (kept != 0))
    sketched = pose(gradwire.capture(BERT, inputs, targets, "powersgd:rank=4", task=task, mode="eval"), "adaptive")
    vectors = columns(layer, sketched.measurement[layer.weight])
    whole = spanned(gradient)
    assert (vectors - whole @ (whole.mT @ vectors)).norm() < 1e-5 * vectors.norm()


def test_a_span_of_all_directions_or_of_none_is_no_span():
    layer = traced(GPT2).layers[0]
    (term,) = pose(
        gradwire.capture(GPT2, *written([[5, 6, 7]], pair=True), "none", task=TASK, mode="eval"), "adaptive"
    ).measurement[layer.weight]
    noise = torch.randn(term.observed.shape, generator=torch.Generator().manual_seed(0))
    assert span([layer], {layer.weight: [type(term)(noise)]}, 10**6) is None
    assert span([layer], {layer.weight: [type(term)(torch.zeros_like(noise))]}, 5) is None


def test_what_is_no_text_or_draws_at_random_is_refused():
    with pytest.raises(GradwireError, match="dager reads sentences, and these are images"):
        traced(GPT2, Task(Pixels((1, 8, 8)), CrossEntropy()))
    with pytest.raises(GradwireError, match="draws at random"):
        traced(networks.gpt2(VOCABULARY, LENGTH, 64, dropout=0.1), mode="train")
    lookup = nn.Sequential(nn.Embedding(VOCABULARY, VOCABULARY))
    with pytest.raises(GradwireError, match="linear layers that receive every token; Sequential has none"):
        traced(lookup, Task(domain(None), NextToken()))
