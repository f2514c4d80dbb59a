import pytest
import torch
from torch.nn.functional import cross_entropy

from gradwire import models
from gradwire.attacks.inversion.gradients import VictimGradients
from gradwire.training import gradient


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet20"])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_victims_gradient_is_what_training_sends(name, mode, batch):
    generator = torch.Generator().manual_seed(0)
    model = models.build(name, (3, 16, 16), 10, (0.5,) * 3, (0.25,) * 3, seed=0).double()
    images = torch.rand(2, batch, 3, 16, 16, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (2, batch), generator=generator)
    together = VictimGradients(model, mode, cross_entropy, "cpu")(images, labels)
    for victim in range(2):
        _, update, _ = gradient(model, images[victim], labels[victim], mode)
        for key, expected in update.items():
            torch.testing.assert_close(together[key][victim], expected, atol=1e-10, rtol=1e-8)
