import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import Analytic
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.errors import GradwireError
from gradwire.studies import AuditSettings
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, Task
from tests.attacks.inversion import tables

AUTOENCODER = "autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1"


@pytest.fixture(scope="module")
def mlp(digits):
    return models.build("mlp", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def attacked(model, digits, scheme="none", start=0, batch=1, knowledge="adaptive", **options):
    images, labels = digits.batch(range(start, start + batch))
    guess = gradwire.invert(gradwire.capture(model, images, labels, scheme, **options), "analytic", knowledge)
    return guess, gradwire.score(guess.inputs, images[None])


@pytest.mark.parametrize("knowledge", ["naive", "adaptive"])
@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1", "powersgd:rank=4"])
def test_the_image_is_exact_through_a_float32_wire(mlp, digits, scheme, knowledge):
    for start in range(20):
        guess, score = attacked(mlp, digits, scheme, start, knowledge=knowledge)
        assert float(score.mse) < 1e-12
        assert float(guess.objective) < 1e-10


def test_in_double_precision_the_image_is_exact_to_rounding(mlp, digits):
    images, labels = digits.batch([0])
    view = gradwire.capture(models.build("mlp", digits.shape, 10, seed=0).double(), images.double(), labels)
    guess = gradwire.invert(view, "analytic")
    torch.testing.assert_close(guess.inputs[0], images, atol=1e-7, rtol=0)


@given(st.integers(0, 350), st.integers(1, 4))
@settings(max_examples=20)
def test_images_that_are_alone_in_two_rows_are_found(start, batch):
    """Rows of one image agree; what one row alone holds may be a mixture that happens to look like an image."""
    digits = data.load("digits")
    model = models.build("mlp", digits.shape, 10, digits.mean, digits.std, seed=0)
    guess, _ = attacked(model, digits, start=start, batch=batch)
    images, _ = digits.batch(range(start, start + batch))
    seen = []
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    hook = first.register_forward_hook(lambda *call: seen.append(call[2] > 0))
    model(images)
    hook.remove()
    alone = seen[0] & (seen[0].sum(0) == 1)
    found = (guess.inputs[0].flatten(1)[None] - images.flatten(1)[:, None]).abs().amax(2).amin(1) < 1e-4
    assert alone.any()
    assert bool(found[alone.sum(1) >= 2].all())


def test_a_crowded_batch_is_found_in_part(mlp, digits):
    _, score = attacked(mlp, digits, batch=64)
    images = digits.batch(range(64))[0]
    errors = (score.inputs[0] - images).square().flatten(1).mean(1)
    assert 0 < int((errors < 1e-10).sum()) < 64


class Bottleneck(nn.Module):
    """PRECODE's idea: what comes behind is drawn anew, so no candidate's gradient can be compared."""

    def __init__(self):
        super().__init__()
        self.first, self.moments, self.last = nn.Linear(64, 100), nn.Linear(100, 32), nn.Linear(16, 10)

    def forward(self, x):
        mean, spread = self.moments(self.first(x.flatten(1) * 2 - 1).relu()).chunk(2, 1)
        return self.last(mean + spread.exp() * torch.randn_like(mean))


def test_noise_behind_the_layer_does_not_matter(digits):
    torch.manual_seed(0)
    assert float(attacked(Bottleneck(), digits)[1].mse) < 1e-10


@pytest.mark.parametrize("scheme", ["topk:ratio=0.1", "topk:ratio=0.01", "topk:match_rank=1"])
def test_kept_entries_are_all_explained_and_give_most_of_the_image(mlp, digits, scheme):
    for start in range(5):
        guess, score = attacked(mlp, digits, scheme, start)
        assert float(guess.objective) < 1e-10
        assert float(score.mse) < 0.08


@pytest.mark.parametrize(("scheme", "work"), [("qsgd:bits=8", {}), ("signsgd", {}), (AUTOENCODER, {"local_steps": 1})])
def test_where_no_entry_was_sent_the_decoded_update_is_read(mlp, digits, scheme, work):
    view = gradwire.capture(mlp, *digits.batch([0]), scheme, **work)
    adaptive, naive = (gradwire.invert(view, "analytic", knowledge=each) for each in ("adaptive", "naive"))
    torch.testing.assert_close(adaptive.inputs, naive.inputs)
    note = f"analytic reads what {view.scheme} decodes to: no entry was sent as it is"
    assert (note in adaptive.notes, note in naive.notes) == (True, False)


def test_a_layer_without_any_slope_is_given_up_alone(mlp, digits):
    dead = models.build("mlp", digits.shape, 10, seed=0)
    nn.init.constant_(dead.hidden1.bias, -100.0)
    guess, _ = attacked(dead, digits)
    assert guess.lost == 1
    assert guess.objective.isinf().all()
    assert (guess.inputs == 0.5).all()


def test_the_way_to_the_layer_is_read_off(mlp, digits):
    layer = FirstLayer.of(mlp, digits.task, "train", (1, *digits.shape))
    images = digits.batch([3])[0]
    assert (layer.weight, layer.bias) == ("hidden1.weight", "hidden1.bias")
    inputs = mlp.normalize(images).flatten(1).double()
    torch.testing.assert_close(layer.undone(inputs, images.shape), images.double(), atol=1e-6, rtol=0)


def test_models_that_it_cannot_take(digits):
    convolutional = models.build("convnet", digits.shape, 10)
    with pytest.raises(GradwireError, match="'conv1' is Conv2d"):
        attacked(convolutional, digits)
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    with pytest.raises(GradwireError, match="every number to reach '2' by itself"):
        attacked(pooled, digits)
    unbiased = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with pytest.raises(GradwireError, match="'1' lacks one"):
        attacked(unbiased, digits)


REGRESSIONS = {"diabetes": 1, "linnerud": 3}


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1"])
def test_one_row_under_mse_is_exact(name, scheme):
    table = data.load(name)
    assert table.task.loss == MeanSquaredError(REGRESSIONS[name])
    model = table.network("mlp:hidden=100", 0)
    for place in range(min(4, len(table.inputs))):
        inputs, targets = table.batch([place])
        guess = gradwire.invert(gradwire.capture(model, inputs, targets, scheme, task=table.task), "analytic")
        torch.testing.assert_close(guess.inputs[0], inputs, atol=1e-4, rtol=1e-5)
        assert float(guess.objective) < 1e-10


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1"])
def test_one_row_under_several_binary_labels_is_exact(scheme):
    held = tables.rows(4)
    for row, due in zip(held, torch.eye(4), strict=True):
        view = tables.captured(row[None], scheme, BinaryCrossEntropy(4), due[None])
        guess = gradwire.invert(dataclasses.replace(view, targets=None), "analytic")
        torch.testing.assert_close(guess.inputs[0, 0], row, atol=1e-4, rtol=0)
        assert torch.equal(guess.targets[0, 0], due)


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=4"])
def test_batches_of_rows_are_exact_where_their_span_is_known(scheme):
    held = tables.rows(4)
    guess = gradwire.invert(tables.captured(held, scheme), "analytic")
    found = tables.DOMAIN.matched(guess.inputs, held[None])
    torch.testing.assert_close(found[0], held, atol=1e-3, rtol=0)
    assert float(guess.objective) < 1e-10


def test_of_fields_of_which_nothing_was_sent_the_usual_value_is_taken():
    held, usual = tables.rows(1, seed=3), tables.DOMAIN.uninformed()
    held[0, 2] = 5.0  # whose entries leave no room for others in the message
    guess = gradwire.invert(tables.captured(held, "topk:ratio=0.004"), "analytic").inputs[0, 0]
    assert float(guess[2]) == pytest.approx(5.0, abs=0.1)
    for group in tables.DOMAIN.groups():
        assert torch.equal(guess[group], usual[group])


def test_rows_of_a_layer_without_any_slope_are_what_is_usual():
    dead = tables.network()
    nn.init.constant_(dead[0].bias, -100.0)
    view = gradwire.capture(
        dead, tables.rows(2), torch.tensor([0, 1]), task=Task(tables.DOMAIN, CrossEntropy(("no", "yes")))
    )
    guess = gradwire.invert(view, "analytic")
    assert guess.lost == 1
    assert torch.equal(guess.inputs[0], tables.DOMAIN.uninformed().expand(2, -1))


def test_it_takes_no_options_and_an_audit_gives_it_none(mlp, digits):
    assert AuditSettings(data="digits", attacks=("analytic", "iga")).inversions["analytic"] == Analytic()
    view = gradwire.capture(mlp, *digits.batch([0]))
    assert gradwire.invert(dataclasses.replace(view, targets=None), "analytic").targets == digits.targets[0]
