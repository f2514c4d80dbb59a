"""Clients' products in bfloat16: near float32's, while parameters, updates and bytes are float32's."""

import pytest
import torch

from gradwire import data, models
from gradwire.engine import Networks, stack
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, train
from gradwire.training.plain import fits
from gradwire.wire import InProcess, Transcript
from tests.tasks import of

DIGITS = data.load("digits", "train", limit=120)


def trained(model="mlp", transport=None, **how):
    settings = TrainSettings(**{"clients": 3, "rounds": 2, "batch_size": 8, "lr": 0.1, "momentum": 0.0, **how})
    state = begin(settings, models.build(model, DIGITS.shape, DIGITS.outputs, seed=0))
    train(state, settings, DIGITS, transport)
    return state


def moved(state):
    """The way from the first parameters, as one vector."""
    start = models.build("mlp", DIGITS.shape, DIGITS.outputs, seed=0)
    return torch.cat(
        [(p - q).detach().flatten() for p, q in zip(state.model.parameters(), start.parameters(), strict=True)]
    )


@pytest.mark.parametrize("how", [{}, {"local_epochs": 1}, {"local_epochs": 1, "partition": "dirichlet:1.0"}], ids=str)
def test_half_the_bits_are_a_small_part_of_the_step(how):
    exact, half, again = trained(**how), trained(**how, precision="bf16"), trained(**how, precision="bf16")
    off = moved(half) - moved(exact)
    assert 0 < float(off.norm()) < 0.1 * float(moved(exact).norm())
    assert torch.equal(moved(half), moved(again))
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert (half.bytes_up, half.bytes_down) == (exact.bytes_up, exact.bytes_down)
    assert any("in bfloat16" in note for note in half.notes)


def test_updates_travel_in_float32():
    transport = InProcess(Transcript())
    trained(transport=transport, precision="bf16", local_epochs=1)
    kinds = {tensor.dtype for message in transport.transcript.messages() for tensor in message.tensors.values()}
    assert kinds == {torch.float32}


@pytest.mark.parametrize("path", ["rowwise", "layered", "functional", "plain"])
@pytest.mark.parametrize("model", ["mlp", "lenet", "convnet"])
def test_every_path_has_it(path, model):
    network = models.build(model, (1, 8, 8), 10, seed=0)
    images, labels = torch.rand(2, 6, 1, 8, 8), torch.randint(10, (2, 6))
    engine = stack(network, of((1, 8, 8)), path=path)
    due = engine.slopes(Networks.repeat(network, 2), images, labels)
    half = type(engine)(engine.run, engine.path, precision="bf16").slopes(Networks.repeat(network, 2), images, labels)
    torch.testing.assert_close(half.losses.float(), due.losses, rtol=0.02, atol=0)
    for key, gradient in due.gradients.items():
        assert half.gradients[key].dtype == torch.float32
        assert float((half.gradients[key] - gradient).norm()) < 0.1 * float(gradient.norm())


def test_what_it_is_not_for():
    with pytest.raises(GradwireError, match="precision is 'fp16'; it must be fp32 or bf16"):
        TrainSettings(precision="fp16")
    with pytest.raises(GradwireError, match="precision is 'bf16'; dpsgd has a hand in each step"):
        trained(scheme="dpsgd", precision="bf16")
    assert not fits(TrainSettings(precision="bf16"), models.build("mlp", DIGITS.shape, 10))
