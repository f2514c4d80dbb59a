"""Each example's own loss is what a batch of it alone has, whatever the loss."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, huber_loss

from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, NextToken, Numbers, Task, Tokens
from gradwire.tasks.given_losses import OwnLoss

LENGTH, WORDS = 6, 9


class Causal(nn.Module):
    """Scores of the next token from the tokens so far, by a running mean of embeddings."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, 5), nn.Linear(5, WORDS)

    def forward(self, input_ids, attention_mask=None):
        so_far = self.embedding(input_ids).cumsum(1) / torch.arange(1, input_ids.shape[1] + 1)[:, None]
        return self.head(so_far)


def own_loss(output, targets):
    return huber_loss(output, targets)


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (CrossEntropy(("a", "b", "c")), 3),
        (MeanSquaredError(2), 2),
        (BinaryCrossEntropy(4), 4),
        (OwnLoss(MeanSquaredError(2), of=own_loss), 2),
        (OwnLoss(CrossEntropy(("a", "b", "c")), of=cross_entropy), 3),
    ],
)
def test_it_is_the_loss_of_a_batch_of_one(loss, outputs):
    task, model = Task(Numbers((7,)), loss), nn.Linear(7, outputs)
    inputs, targets = torch.randn(5, 7), loss.sample(5, random=torch.Generator().manual_seed(0))
    targets = targets.float() if targets.is_floating_point() else targets
    found = task.each(model, inputs, targets)
    alone = torch.stack([task.value(model, x[None], y[None]) for x, y in zip(inputs, targets, strict=True)])
    assert found.dtype == torch.float64
    assert found.shape == (5,)
    torch.testing.assert_close(found, alone.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.mean(), task.value(model, inputs, targets).double(), rtol=1e-5, atol=1e-6)


def test_a_sentence_has_the_mean_over_its_own_tokens_however_long_others_are():
    tokens = Tokens(LENGTH, tuple(map(str, range(WORDS))), pad=0)
    task, model = Task(tokens, NextToken(0)), Causal()
    inputs = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [3, 3, 2, 0, 0, 0]])
    targets = task.loss.derived(inputs)
    with torch.no_grad():
        found = task.each(model, inputs, targets)
    for own, sentence in zip(found, inputs, strict=True):
        held = sentence[sentence != 0]
        due = cross_entropy(model(held[None])[0, :-1], held[1:])
        assert float(own) == pytest.approx(float(due), rel=1e-5)
    counts = torch.tensor([5.0, 1.0, 2.0])
    assert float(task.value(model, inputs, targets)) == pytest.approx(float((found * counts).sum() / 8), rel=1e-5)
