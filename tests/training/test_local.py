import pytest
import torch

from gradwire import capture, models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, observation, parse
from gradwire.training import gradient
from gradwire.training.client import Descent, contribution
from gradwire.wire.view import LocalWork


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 1, 8, 8, generator=generator), torch.randint(10, (4,), generator=generator)


@pytest.fixture
def model():
    return models.build("convnet", (1, 8, 8), 10, seed=0)


def decoded(view):
    scheme, seen = observation(view)
    return scheme.decode(seen)


def test_it_is_what_torchs_sgd_does(model, batch):
    images, labels = batch
    steps = Descent([torch.arange(2), torch.arange(2, 4)] * 2, [0, 0, 1, 1], 0.1, 0.0, 0.01)
    around = Round(0, ("client:0",), 0, Layout.of_model(model))
    update = contribution(model, images, labels, parse("none"), "client:0", {}, around, steps).update
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    for step in range(4):
        chosen = slice(0, 2) if step % 2 == 0 else slice(2, 4)
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        sgd.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(update[name], before[name] - p.detach(), atol=1e-6, rtol=1e-4)


def test_one_step_of_size_one_is_a_gradient(model, batch):
    view = capture(model, *batch, local_steps=1)
    for name, g in gradient(model, *batch)[1].items():
        torch.testing.assert_close(decoded(view)[name], g, atol=1e-6, rtol=1e-4)
    assert view.work == LocalWork(1, 4, 1.0, 0.0)
    assert capture(model, *batch).work is None


def test_weight_decay_is_part_of_what_is_sent(model, batch):
    plain, decaying = decoded(capture(model, *batch)), capture(model, *batch, weight_decay=0.5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(decoded(decaying)[name], plain[name] + 0.5 * p.detach(), atol=1e-6, rtol=1e-4)
    assert decaying.work.weight_decay == 0.5


def test_the_order_of_an_epoch_is_the_clients_own_and_decided_by_the_seed(model, batch):
    views = [capture(model, *batch, local_steps=4, local_batch=1, lr=0.5, seed=seed) for seed in (0, 0, 1)]
    heads = [decoded(view)["head.weight"] for view in views]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_buffers_that_training_sends_are_in_the_view(batch):
    norm = models.build("resnet20", (1, 8, 8), 10, seed=0)
    view = capture(norm, *batch)
    own = gradient(norm, *batch)[2]
    assert view.buffers
    assert all("running" in name or "num_batches" in name for name in view.buffers)
    for name, value in view.buffers.items():
        assert torch.equal(value, own[name].to(value))
        assert not torch.equal(value, view.model.get_buffer(name).to(value))
    assert capture(norm, *batch, mode="eval").buffers is None
    several = capture(norm, *batch, local_steps=2, local_batch=2)
    assert several.buffers.keys() == view.buffers.keys()


def test_a_model_without_running_statistics_sends_none(model, batch):
    assert capture(model, *batch).buffers is None


def test_bad_input(model, batch):
    with pytest.raises(GradwireError, match="local_batch is 3; it must divide the 4 examples"):
        capture(model, *batch, local_steps=2, local_batch=3)
    with pytest.raises(GradwireError, match="local_steps is 0; it must be at least 1"):
        capture(model, *batch, local_steps=0)
    with pytest.raises(GradwireError, match="lr is 0; it must be positive"):
        capture(model, *batch, local_steps=1, lr=0)
    with pytest.raises(GradwireError, match="weight_decay is -1"):
        capture(model, *batch, weight_decay=-1)
