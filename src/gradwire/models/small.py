"""Small networks: layers in a row, each with PyTorch's initialisation unless it is stated otherwise."""

from collections import OrderedDict
from math import prod

from torch import nn

from gradwire.errors import at_least


def _row(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def mlp(shape: tuple[int, ...], classes: int, hidden: int = 256) -> nn.Sequential:
    """Three linear layers, two hidden ones of 256 units with ReLU: 855,050 parameters on CIFAR-10.

    Inputs may have any shape: the rows of a table, images.

    Args:
        hidden: units of each hidden layer.

    Raises:
        GradwireError: no hidden units.
    """
    at_least(1, hidden=hidden)
    return _row(
        flatten=nn.Flatten(),
        hidden1=nn.Linear(prod(shape), hidden),
        relu1=nn.ReLU(),
        hidden2=nn.Linear(hidden, hidden),
        relu2=nn.ReLU(),
        head=nn.Linear(hidden, classes),
    )


def lenet(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The LeNet of Zhu et al. 2019, "Deep leakage from gradients", for images of any size.

    Three 5×5 convolutions of 12 channels with strides 2, 2 and 1 and a sigmoid after each, so that everything can be
    differentiated twice, then one linear layer. Weights and biases are uniform in [-0.5, 0.5], as in the authors'
    code: PyTorch's smaller ones would leave the sigmoids nearly linear and the gradients faint.
    13,426 parameters on Fashion-MNIST, 15,826 on CIFAR-10, 85,036 on CIFAR-100.
    """
    channels, height, width = shape
    # Padding 2 keeps a 5×5 convolution's size, so each stride of 2 halves it, rounding up: twice makes a quarter.
    features = 12 * -(-height // 4) * -(-width // 4)
    net = _row(
        conv1=nn.Conv2d(channels, 12, kernel_size=5, padding=2, stride=2),
        sigmoid1=nn.Sigmoid(),
        conv2=nn.Conv2d(12, 12, kernel_size=5, padding=2, stride=2),
        sigmoid2=nn.Sigmoid(),
        conv3=nn.Conv2d(12, 12, kernel_size=5, padding=2, stride=1),
        sigmoid3=nn.Sigmoid(),
        flatten=nn.Flatten(),
        head=nn.Linear(features, classes),
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return net


def convnet(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The default network: 3×3 convolutions of 16, 32 and 32 channels, the second with stride 2, and a linear layer.

    It suits images from 8×8 to 32×32. GELU (Hendrycks and Gimpel 2016) follows each convolution, because an attack
    differentiates the gradient once more; there is no batch norm, because an update must not depend on statistics that
    are not sent. 19,178 parameters on scikit-learn's digits.
    """
    channels, height, width = shape
    features = 32 * -(-height // 2) * -(-width // 2)
    return _row(
        conv1=nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        gelu1=nn.GELU(),
        conv2=nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2),
        gelu2=nn.GELU(),
        conv3=nn.Conv2d(32, 32, kernel_size=3, padding=1),
        gelu3=nn.GELU(),
        flatten=nn.Flatten(),
        head=nn.Linear(features, classes),
    )


def cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two 3×3 convolutions of 32 and 64 channels without padding, 2×2 max-pooling (rounding up), and two linear layers.

    The network of Reddi et al. 2021, "Adaptive federated optimization", table 4, with ReLUs, a hidden layer of 128 and
    dropout of 0.25 and 0.5; pfl-research's benchmark trains it on CIFAR-10. 1,199,882 parameters on Fashion-MNIST,
    1,626,442 on CIFAR-10.
    """
    channels, height, width = shape
    features = 64 * -(-(height - 4) // 2) * -(-(width - 4) // 2)
    return _row(
        conv1=nn.Conv2d(channels, 32, kernel_size=3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 64, kernel_size=3),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2, ceil_mode=True),
        dropout1=nn.Dropout(0.25),
        flatten=nn.Flatten(),
        hidden=nn.Linear(features, 128),
        relu3=nn.ReLU(),
        dropout2=nn.Dropout(0.5),
        head=nn.Linear(128, classes),
    )
