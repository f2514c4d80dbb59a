import pytest
import torch
from torch import nn

import gradwire
from gradwire.attacks.inversion.text.embedding import trace
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, Task, Tokens, task_of

from .worlds import tiny, world


class Bag(nn.Module):
    """A classifier whose positions begin at row 2 of their table, as RoBERTa's do, or that has none."""

    def __init__(self, positions=True):
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.places = nn.Embedding(20, 16) if positions else None
        self.last = nn.Linear(16, 2)

    def forward(self, tokens):
        found = self.words(tokens)
        if self.places is not None:
            found = found + self.places(torch.arange(2, 2 + tokens.shape[1])[None])
        return self.last(found.tanh().mean(1))


UNPADDED = Task(Tokens(12, tuple(map(str, range(50))), None), CrossEntropy(("no", "yes")))


def test_tables_are_found_by_what_they_receive_and_tied_heads_by_their_parameter():
    bert, untied, tied = (tiny(kind, **more) for kind, more in (("bert", {}), ("gpt2", {}), ("gpt2", {"tied": True})))
    found = trace(bert.model, bert.task)
    assert found.tokens.parameter == "bert.embeddings.word_embeddings.weight"
    assert found.positions.parameter == "bert.embeddings.position_embeddings.weight"
    assert found.tokens.sent
    assert found.head is None
    assert not found.tied
    found = trace(untied.model, untied.task)
    assert (found.tokens.parameter, found.head.parameter) == ("transformer.wte.weight", "lm_head.weight")
    assert not found.tied
    found = trace(tied.model, tied.task)
    assert found.tied
    assert found.positions.parameter == "transformer.wpe.weight"


def test_positions_may_begin_at_another_row():
    found = trace(Bag(), UNPADDED)
    assert (found.positions.parameter, found.positions.first) == ("places.weight", 2)
    assert trace(Bag(positions=False), UNPADDED).positions is None


def test_the_network_is_left_as_it_was():
    net = tiny().model.train()
    trace(net, tiny().task)
    assert net.training
    assert all(not module._forward_hooks for module in net.modules())


def frozen():
    found = tiny("gpt2", seed=3)
    found.model.transformer.wte.weight.requires_grad_(False)
    return found


@pytest.mark.parametrize("attack", ["tokens", "sentences"])
def test_an_embedding_that_is_not_sent_is_refused_with_what_can_still_be_tried(attack):
    view = frozen().view([0])
    with pytest.raises(
        GradwireError, match=r"no embedding is on the wire.*'transformer.wte.weight' is not trained; try 'dager'"
    ):
        gradwire.invert(view, attack)


def test_adapters_alone_leave_no_embedding_on_the_wire():
    from gradwire.models.text import adapted

    found = tiny("gpt2")
    adapted(found.model, 2)
    with pytest.raises(GradwireError, match=r"no embedding is on the wire"):
        gradwire.invert(found.view([0]), "tokens")


def test_whole_sentences_need_positions():
    found = world("bert", [[1, 5, 6, 2]], torch.tensor([0]), 50, 16, 8, heads=2)
    found.model.bert.embeddings.position_embeddings.weight.requires_grad_(False)
    with pytest.raises(
        GradwireError, match=r"needs an embedding of positions on the wire.*is not trained; try 'tokens'"
    ):
        gradwire.invert(found.view([0]), "sentences")
    view = gradwire.capture(Bag(False), torch.tensor([[5, 6, 7]]), torch.tensor([1]), task=UNPADDED, mode="eval")
    with pytest.raises(GradwireError, match="looks none up"):
        gradwire.invert(view, "sentences")


@pytest.mark.parametrize("attack", ["tokens", "sentences"])
def test_pictures_are_refused_by_name(attack):
    images = torch.rand(1, 1, 4, 4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    view = gradwire.capture(net, images, torch.tensor([1]), task=task_of(images))
    with pytest.raises(GradwireError, match=f"attack '{attack}' reads text; the inputs are pixels"):
        gradwire.invert(view, attack)


def test_a_network_without_a_lookup_is_refused():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(50, 2)

        def forward(self, tokens):
            return self.last(nn.functional.one_hot(tokens, 50).float().mean(1))

    view = gradwire.capture(OneHot(), torch.tensor([[5, 6, 7]]), torch.tensor([1]), task=UNPADDED, mode="eval")
    with pytest.raises(GradwireError, match=r"OneHot looks its tokens up in no nn\.Embedding"):
        gradwire.invert(view, "tokens")
