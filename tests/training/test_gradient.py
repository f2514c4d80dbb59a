import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradwire import models
from gradwire.errors import GradwireError
from gradwire.training import gradient


def batch(n=4, shape=(1, 8, 8), classes=10):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, generator=generator), torch.randint(classes, (n,), generator=generator)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet20"])
def test_equals_backward(name, mode):
    model = models.build(name, (1, 8, 8), 10, seed=0)
    images, labels = batch()
    loss, update, _ = gradient(model, images, labels, mode)
    model.train(mode == "train")
    expected = cross_entropy(model(images), labels)
    expected.backward()
    assert loss == expected.item()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(update[name], parameter.grad)


def test_the_model_is_left_as_it_was():
    model = models.build("resnet20", (1, 8, 8), 10, seed=0).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    _, _, buffers = gradient(model, *batch(), mode="train")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert any(not torch.equal(buffers[name], before[name]) for name in before if name in buffers)
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_are_not_part_of_the_update():
    model = models.build("convnet", (1, 8, 8), 10, seed=0)
    model.conv1.weight.requires_grad_(False)
    _, update, _ = gradient(model, *batch())
    assert "conv1.weight" not in update
    assert "conv1.bias" in update


def test_a_parameter_that_the_loss_does_not_reach_has_gradient_zero():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(64, 10), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x.flatten(1))

    _, update, _ = gradient(Idle(), *batch())
    assert not update["idle.weight"].any()


def test_bad_input():
    model = models.build("convnet", (1, 8, 8), 10, seed=0)
    images, labels = batch()
    with pytest.raises(GradwireError, match=r"images lie in \[0, 2\]"):
        gradient(model, torch.linspace(0, 2, images.numel()).view_as(images), labels)
    with pytest.raises(GradwireError, match="nan"):
        gradient(model, images * float("nan"), labels)
    with pytest.raises(GradwireError, match="label 10 is out of range; the model has classes 0 to 9"):
        gradient(model, images, labels.clone().fill_(10))
    with pytest.raises(GradwireError, match="is -1; it must not be negative"):
        gradient(model, images, labels.clone().fill_(-1))
    with pytest.raises(GradwireError, match=r"model fails on inputs of shape \(1, 8, 8\)"):
        gradient(model, images[0], labels[:1])
    with pytest.raises(GradwireError, match=r"model fails on images of shape \(4, 1, 28, 28\) in train mode"):
        gradient(model, torch.rand(4, 1, 28, 28), labels)
    with pytest.raises(GradwireError, match=r"must be \(inputs, classes\)"):
        gradient(nn.Conv2d(1, 1, 1), images, labels)
    with pytest.raises(GradwireError, match="mode is 'test'"):
        gradient(model, images, labels, mode="test")
    with pytest.raises(GradwireError, match="no parameter that requires a gradient"):
        gradient(nn.Flatten(), images, labels)
