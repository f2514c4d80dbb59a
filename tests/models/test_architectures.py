"""Each named network: its published size, its shapes, and that it can be differentiated twice."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradwire import data, models

DIGITS, FASHION, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
OF_TOKENS = ("bert", "gpt2", "pretrained")
NAMES = [name for name in models.names() if name not in OF_TOKENS]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("mlp", FASHION, 10, 269_322),
        ("mlp", CIFAR, 10, 855_050),
        ("lenet", FASHION, 10, 13_426),
        ("lenet", CIFAR, 10, 15_826),
        ("lenet", CIFAR, 100, 85_036),
        ("convnet", DIGITS, 10, 19_178),
        ("resnet18", CIFAR, 10, 11_173_962),
        ("resnet20", CIFAR, 10, 269_722),
        ("resnet110", CIFAR, 10, 1_727_962),
        ("resnet50", CIFAR, 10, 23_520_842),
    ],
)
def test_parameter_counts(name: str, shape: tuple[int, int, int], classes: int, count: int) -> None:
    assert models.parameter_count(models.build(name, shape, classes)) == count


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [DIGITS, FASHION, CIFAR, (3, 7, 5)], ids=str)
def test_scores_have_one_column_a_class(name: str, shape: tuple[int, int, int]) -> None:
    net = models.build(name, shape, classes=7, mean=[0.5] * shape[0], std=[0.25] * shape[0], seed=0).eval()
    with torch.no_grad():
        scores = net(torch.rand(2, *shape))
    assert scores.shape == (2, 7)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_gradient_reaches_the_image(name: str) -> None:
    net = models.build(name, DIGITS, classes=10, seed=0).eval()
    image = torch.rand(1, *DIGITS, requires_grad=True)
    loss = cross_entropy(net(image), torch.tensor([3]))
    gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), image)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_per_example_gradients_through_torch_func(name: str) -> None:
    net = models.build(name, DIGITS, classes=10, seed=0).eval()
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    trainable = {key: value.detach() for key, value in net.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        scores = torch.func.functional_call(net, {**state, **parameters}, (image[None],))
        return cross_entropy(scores, label[None])

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    gradients = per_example(trainable, torch.rand(2, *DIGITS), torch.tensor([0, 1]))
    assert all(gradients[key].shape == (2, *value.shape) for key, value in trainable.items())


def test_lenet_starts_as_its_paper_does() -> None:
    values = torch.cat([p.flatten() for p in models.build("lenet", CIFAR, 100, seed=0).parameters()])
    assert -0.5 <= values.min() < -0.49
    assert 0.49 < values.max() <= 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_convnet_learns_digits_quickly(seed: int) -> None:
    train, test = data.load("digits", "train"), data.load("digits", "test")
    net = models.build("convnet", train.shape, train.outputs, train.mean, train.std, seed=seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(150):
        images, labels = train.batch(torch.randint(len(train), (64,), generator=draw))
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step()
    images, labels = test.batch(range(len(test)))
    assert (net(images).argmax(1) == labels).float().mean() > 0.93
