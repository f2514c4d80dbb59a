import copy

import pytest
import torch
from torch import nn

from gradwire import capture, data, invert, models, score
from gradwire.attacks.inversion.iga import apart
from gradwire.attacks.inversion.statistics import Statistics, sent
from gradwire.errors import GradwireError
from tests.tasks import of


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_distance_is_that_of_each_victims_own_activations(network, mode):
    images = torch.rand(3, 2, 1, 8, 8)
    found = Statistics(network, of(images.shape[2:]), mode).distance(images)
    for victim in range(3):
        seen = network[0](images[victim])
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
        expected = (mean - network[1].running_mean).norm() + (variance - network[1].running_var).norm()
        torch.testing.assert_close(found[victim], expected)


def test_it_is_zero_where_the_running_statistics_are_the_batchs_own(network):
    images = torch.rand(1, 8, 1, 8, 8)
    learned = nn.Sequential(*network)
    seen = learned[0](images[0])
    own = nn.BatchNorm2d(4)
    own.running_mean, own.running_var = seen.mean((0, 2, 3)).detach(), seen.var((0, 2, 3)).detach()
    learned[1] = own
    assert float(Statistics(learned, of((1, 8, 8)), "train").distance(images)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("adversary", ["server", "client"])
def test_what_a_victim_sends_tells_its_own_batchs_statistics(network, adversary, momentum):
    learned = copy.deepcopy(network)
    learned[1].momentum = momentum
    batches = [(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])) for _ in range(3)]
    views = [capture(learned, *own, adversary=adversary, fellows=batches[2:]) for own in batches[:2]]
    known = sent(views)
    for victim, (images, _) in enumerate(batches[:2]):
        seen = learned[0](images)
        torch.testing.assert_close(known["1"][0][victim], seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(known["1"][1][victim], seen.var((0, 2, 3)), atol=1e-4, rtol=1e-4)
    distance = Statistics(learned, of((1, 8, 8)), "train", known=known).distance(
        torch.stack([images for images, _ in batches[:2]])
    )
    assert float(distance.max()) < 1e-3


def test_evaluation_mode_and_several_local_steps_tell_nothing(network):
    batch = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    assert sent([capture(network, *batch, mode="eval")]) is None
    assert sent([capture(network, *batch, local_steps=2)]) is None
    assert sent([capture(network, *batch, local_steps=1)]) is not None


def test_the_model_that_was_given_is_left_as_it_was(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    Statistics(network, of((1, 8, 8)), "train").distance(torch.rand(1, 2, 1, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training


def test_a_group_is_as_far_apart_as_its_members_are_from_their_mean():
    images = torch.rand(6, 2, 1, 4, 4)
    found = apart(images, 3)
    for row in range(6):
        mean = images[row // 3 * 3 : row // 3 * 3 + 3].mean(0)
        torch.testing.assert_close(found[row], (images[row] - mean).square().mean())


def test_the_group_draws_restarts_together():
    digits = data.load("digits")
    model = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    view = capture(model, *digits.batch([0, 1]))
    free = invert(view, iterations=60, restarts=3)
    drawn = invert(view, iterations=60, restarts=3, group=0.1)
    assert not torch.equal(free.inputs, drawn.inputs)
    assert float(score(drawn.inputs, digits.batch([0, 1])[0]).ssim) > 0.8


def test_bad_input():
    digits = data.load("digits")
    model = models.build("mlp", digits.shape, digits.outputs, seed=0)
    view = capture(model, *digits.batch([0]))
    with pytest.raises(GradwireError, match="Sequential has no batch norm whose statistics could be a prior"):
        invert(view, iterations=1, bn=0.1)
    with pytest.raises(GradwireError, match=r"group is 0.1 and restarts 1; a group takes at least 2"):
        invert(view, group=0.1)
    with pytest.raises(GradwireError, match="bn is -1"):
        invert(view, bn=-1)
