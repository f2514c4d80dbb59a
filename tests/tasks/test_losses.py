"""Losses against PyTorch's own and transformers', what they refuse, and captures of networks with any output."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradwire import capture, score
from gradwire.attacks.inversion import pose
from gradwire.errors import GradwireError
from gradwire.schemes import observation
from gradwire.tasks import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    NextToken,
    Numbers,
    Pixels,
    Task,
    Tokens,
    parse_loss,
    task_of,
)
from gradwire.tasks.given_losses import OwnLoss, Reported
from gradwire.tasks.losses import IGNORED

RANDOM = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=RANDOM, dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
FLAGS = torch.randint(2, (6, 3), generator=RANDOM).double()
VALUES = torch.randn(6, 3, generator=RANDOM, dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "targets", "due"),
    [
        (CrossEntropy(tuple("abc")), LABELS, functional.cross_entropy(LOGITS, LABELS)),
        (MeanSquaredError(3), VALUES, functional.mse_loss(LOGITS, VALUES)),
        (BinaryCrossEntropy(3), FLAGS, functional.binary_cross_entropy_with_logits(LOGITS, FLAGS)),
    ],
)
def test_each_loss_is_pytorchs_and_the_mean_of_its_examples(loss, targets, due):
    loss.check(targets, 6)
    assert torch.equal(loss(LOGITS, targets), due)
    torch.testing.assert_close(loss.each(LOGITS, targets).mean(), due)
    assert torch.equal(loss({"logits": LOGITS}, targets), due)
    assert torch.equal(loss((LOGITS, None), targets), due)
    assert set(loss.measures(LOGITS, targets)) == set(loss.measured)


def test_the_measures_are_what_their_names_say():
    right = CrossEntropy(tuple("abc")).measures(LOGITS, LABELS)["accuracy"]
    assert torch.equal(right, (LOGITS.argmax(1) == LABELS).double())
    off = MeanSquaredError(3).measures(LOGITS, VALUES)["absolute_error"]
    torch.testing.assert_close(off, (LOGITS - VALUES).abs().mean(1))
    told = BinaryCrossEntropy(3).measures(LOGITS, FLAGS)["accuracy"]
    torch.testing.assert_close(told, ((LOGITS > 0) == (FLAGS == 1)).double().mean(1))


def test_the_next_tokens_loss_is_that_of_transformers():
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = library.GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2, attn_implementation="eager"
    )
    model = library.GPT2LMHeadModel(config).eval()
    tokens = torch.tensor([[3, 4, 5, 6, 0, 0], [7, 8, 9, 10, 1, 2]])
    domain, loss = Tokens(6, tuple("pbcdefghijk"), pad=0), NextToken(0)
    targets = loss.derived(tokens)
    assert targets[0].tolist() == [3, 4, 5, 6, IGNORED, IGNORED]
    ours = Task(domain, loss).value(model, tokens, targets)
    theirs = model(input_ids=tokens, attention_mask=(tokens != 0).long(), labels=targets).loss
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(Task(domain, Reported(loss)).value(model, tokens, targets), theirs)
    accuracy = loss.measures(model(tokens), targets)["accuracy"]
    due = model(tokens).logits[:, :-1].argmax(2) == tokens[:, 1:]
    assert accuracy.tolist() == pytest.approx([float(due[0, :3].double().mean()), float(due[1].double().mean())])


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (CrossEntropy(tuple("abc")), LABELS + 1, "the label of example 1 is 3; with 3 classes it must be from 0 to 2"),
        (
            CrossEntropy(tuple("abc")),
            VALUES,
            r"this loss takes int64 of shape \(6\)",
        ),
        (MeanSquaredError(3), LABELS, r"this loss takes floating-point of shape \(6, 3\)"),
        (MeanSquaredError(3), VALUES / 0, "targets hold a value that is not finite"),
        (BinaryCrossEntropy(3), VALUES, "neither 0 nor 1"),
        (NextToken(0), torch.full((6, 4), IGNORED), "batch has no counted target"),
        (OwnLoss(of=functional.l1_loss), LABELS[:4], "6 inputs have 4 targets"),
    ],
)
def test_targets_that_do_not_suit_are_refused(loss, targets, message):
    with pytest.raises(GradwireError, match=message):
        loss.check(targets, 6)


class Named(nn.Module):
    """A network whose output is a dictionary."""

    def __init__(self, key="logits"):
        super().__init__()
        self.layer, self.key = nn.Linear(4, 3), key

    def forward(self, x):
        return {self.key: self.layer(x), "loss": self.layer(x).square().mean()}


def test_a_networks_output_comes_to_a_loss_of_ones_own_as_it_is():
    """The dictionary itself, so that the loss can use any part of it."""
    model, x = Named("scores"), torch.rand(2, 4)

    def loss(output, targets):
        return functional.cross_entropy(output["scores"], targets, label_smoothing=0.1)

    view = capture(model, x, torch.tensor([0, 2]), task=task_of(x, loss))
    due = torch.autograd.grad(loss(model(x), torch.tensor([0, 2])), list(model.parameters()))
    scheme, seen = observation(view)
    for found, expected in zip(scheme.decode(seen).values(), due, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_loss_that_the_network_reports_is_its_own():
    x = torch.rand(2, 4)
    task = Task(Numbers((4,)), Reported(CrossEntropy(tuple("abc"))))

    class Reporting(Named):
        def forward(self, x, labels=None):
            scores = self.layer(x)
            return {"loss": 2 * functional.cross_entropy(scores, labels), "logits": scores}

    model = Reporting()
    view = capture(model, x, torch.tensor([0, 2]), task=task)
    scheme, seen = observation(view)
    (weight, _) = torch.autograd.grad(
        2 * functional.cross_entropy(model.layer(x), torch.tensor([0, 2])), [*model.parameters()]
    )
    torch.testing.assert_close(scheme.decode(seen)["layer.weight"], weight)


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (Named("scores"), CrossEntropy(tuple("abc")), "must give a tensor of logits"),
        (nn.Linear(4, 3), Reported(CrossEntropy(tuple("abc"))), "labels"),
        (nn.Linear(4, 3), OwnLoss(of=lambda output, targets: output), r"gives shape \(2, 3\); it must give a scalar"),
        (nn.Linear(4, 3), OwnLoss(of=lambda output, targets: 1.0), "gives float; it must give a scalar"),
        (nn.Linear(4, 2), CrossEntropy(tuple("abc")), "label 2 is out of range; the model has classes 0 to 1"),
    ],
)
def test_outputs_that_no_loss_can_take_are_refused_in_one_line(model, loss, message):
    with pytest.raises(GradwireError, match=message) as caught:
        capture(model, torch.rand(2, 4), torch.tensor([0, 2]), task=Task(Numbers((4,)), loss))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of", [Reported, lambda like: OwnLoss(like, of=lambda output, targets: output.logits.mean())])
def test_targets_that_are_the_inputs_are_told_to_nobody(of):
    """Whatever computes the loss: an adversary who knows the targets would know the sentences."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "n_positions": 6, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = library.GPT2LMHeadModel(library.GPT2Config(**sizes, attn_implementation="eager"))
    tokens = torch.tensor([[3, 4, 5, 6, 7, 8]])
    task = Task(Tokens(6, tuple("pbcdefghijk"), pad=0), of(NextToken(0)))
    view = capture(model, tokens, task.loss.derived(tokens), task=task, targets_known=True)
    assert view.targets is None
    assert not pose(view, "adaptive").targets.numel()


def test_whole_numbers_without_a_task_are_refused():
    with pytest.raises(GradwireError, match=r"inputs are torch\.int64; give the task"):
        task_of(torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(GradwireError, match=r"inputs are torch\.uint8; divide by 255"):
        task_of(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_a_loss_by_name():
    own = CrossEntropy(tuple("abc"))
    assert parse_loss("", own) is own
    assert parse_loss("cross_entropy", own) is own
    assert parse_loss("reported", own) == Reported(own)
    assert parse_loss("torch.nn.functional:multi_margin_loss", own) == OwnLoss(own, of=functional.multi_margin_loss)
    for spec, message in (
        ("mse", "suit 'cross_entropy'"),
        ("hinge", "unknown loss 'hinge'"),
        ("no_such:loss", "import"),
    ):
        with pytest.raises(GradwireError, match=message):
            parse_loss(spec, own)


def test_a_score_of_numbers_is_in_the_order_of_the_truth():
    truth = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(1))
    found = score(truth[:, [2, 0, 1]], truth, Numbers((5,)))
    assert torch.equal(found.inputs, truth)
    assert found.relative_error.tolist() == [0.0]
    assert found.success.tolist() == [True]
    assert score(truth + 1, truth, Task(Numbers((5,)), CrossEntropy())).success.tolist() == [False]
    with pytest.raises(AttributeError, match="no 'ssim'; it has relative_error, mse"):
        _ = found.ssim


def test_the_fingerprint_of_a_domain_is_that_of_what_is_known():
    words = tuple("abcdef")
    assert Tokens(4, words).fingerprint == Tokens(4, words).fingerprint
    others = [Tokens(5, words), Tokens(4, tuple("abcdeg")), Pixels((1, 2, 2)), Numbers((4,)), Numbers((4,), low=0)]
    assert len({domain.fingerprint for domain in (Tokens(4, words), *others)}) == 6
