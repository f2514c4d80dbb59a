"""The convolutional network of federated learning's benchmarks."""

from collections import OrderedDict

from torch import nn


def cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two 3×3 convolutions of 32 and 64 channels without padding, 2×2 max-pooling (rounding up), and two linear layers.

    The network of Reddi et al. 2021, "Adaptive federated optimization", table 4, with ReLUs, a hidden layer of 128 and
    dropout of 0.25 and 0.5; pfl-research's benchmark trains it on CIFAR-10. PyTorch's initialisation.

    1,199,882 parameters on Fashion-MNIST, 1,626,442 on CIFAR-10.
    """
    channels, height, width = shape
    features = 64 * -(-(height - 4) // 2) * -(-(width - 4) // 2)
    return nn.Sequential(
        OrderedDict(
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
    )
