"""The network on which gradient inversion was first shown."""

from collections import OrderedDict

from torch import nn

WIDTH = 12


def lenet(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The LeNet of Zhu et al. 2019, "Deep leakage from gradients", for images of any size.

    Three 5×5 convolutions of 12 channels with strides 2, 2 and 1 and a sigmoid after each, so that everything can be
    differentiated twice, then one linear layer. Weights and biases are uniform in [-0.5, 0.5], as in the authors'
    code: PyTorch's smaller ones would leave the sigmoids nearly linear and the gradients faint.

    13,426 parameters on Fashion-MNIST, 15,826 on CIFAR-10, 85,036 on CIFAR-100.
    """
    channels, height, width = shape
    # Padding 2 keeps a 5×5 convolution's size, so each stride of 2 halves it, rounding up: twice makes a quarter.
    features = WIDTH * -(-height // 4) * -(-width // 4)
    net = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, WIDTH, kernel_size=5, padding=2, stride=2),
            sigmoid1=nn.Sigmoid(),
            conv2=nn.Conv2d(WIDTH, WIDTH, kernel_size=5, padding=2, stride=2),
            sigmoid2=nn.Sigmoid(),
            conv3=nn.Conv2d(WIDTH, WIDTH, kernel_size=5, padding=2, stride=1),
            sigmoid3=nn.Sigmoid(),
            flatten=nn.Flatten(),
            head=nn.Linear(features, classes),
        )
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return net
