"""Residual networks for small images (He et al. 2016, "Deep residual learning for image recognition").

All have a 3×3 stem of stride 1 without max-pooling, batch norm, global average pooling, and PyTorch's initialisation
(Kaiming uniform with a = √5). ReLUs never work in place: double backward and torch.func need what they would overwrite.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

Block = Callable[[int, int, int], nn.Module]
"""(channels in, width, stride) → a residual block."""


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)), the body and the shortcut giving one shape."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map N×C×H×W to N×C'×H'×W'."""
        return functional.relu(self.body(x) + self.shortcut(x))


class PadShortcut(nn.Module):
    """The paper's option A: take every stride-th pixel and add channels of zeros; no parameters."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map N×C×H×W to N×(C + extra)×⌈H/stride⌉×⌈W/stride⌉."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


def projection(channels: int, width: int, stride: int) -> nn.Module:
    """The paper's option B: a 1×1 convolution where the shape changes, the identity elsewhere."""
    if stride == 1 and channels == width:
        return nn.Identity()
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(channels, width, 1, stride, bias=False), norm=nn.BatchNorm2d(width))
    )


def _two_convolutions(channels: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            norm1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(width),
        )
    )


def basic_a(channels: int, width: int, stride: int) -> nn.Module:
    """Two 3×3 convolutions with shortcut A, as in the paper's networks for CIFAR."""
    same = stride == 1 and channels == width
    shortcut = nn.Identity() if same else PadShortcut(width - channels, stride)
    return Residual(_two_convolutions(channels, width, stride), shortcut)


def basic_b(channels: int, width: int, stride: int) -> nn.Module:
    """Two 3×3 convolutions with shortcut B, as in the paper's networks for ImageNet."""
    return Residual(_two_convolutions(channels, width, stride), projection(channels, width, stride))


def bottleneck(channels: int, width: int, stride: int) -> nn.Module:
    """1×1, 3×3 and 1×1 convolutions, `width` channels out of a quarter as many inside, with shortcut B.

    The stride is the 3×3 convolution's, as in every later implementation; the paper gave it to the first 1×1.
    """
    inner = width // 4
    body = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, inner, 1, bias=False),
            norm1=nn.BatchNorm2d(inner),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False),
            norm2=nn.BatchNorm2d(inner),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(inner, width, 1, bias=False),
            norm3=nn.BatchNorm2d(width),
        )
    )
    return Residual(body, projection(channels, width, stride))


def _resnet(
    block: Block, stem: int, widths: Sequence[int], depths: Sequence[int], channels: int, classes: int
) -> nn.Sequential:
    """Stack stages of blocks; every stage but the first halves the image."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, stem, 3, padding=1, bias=False), norm=nn.BatchNorm2d(stem), relu=nn.ReLU()
    )
    before = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        first = block(before, width, 1 if stage == 1 else 2)
        layers[f"stage{stage}"] = nn.Sequential(first, *(block(width, width, 1) for _ in range(depth - 1)))
        before = width
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(before, classes))
    return nn.Sequential(layers)


def resnet18(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Basic blocks 2-2-2-2 of 64 to 512 channels, shortcut B; 11,173,962 parameters on CIFAR-10."""
    return _resnet(basic_b, 64, (64, 128, 256, 512), (2, 2, 2, 2), shape[0], classes)


def resnet20(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The paper's CIFAR network with n = 3: 16 to 64 channels, shortcut A; 269,722 parameters on CIFAR-10."""
    return _resnet(basic_a, 16, (16, 32, 64), (3, 3, 3), shape[0], classes)


def resnet110(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The paper's CIFAR network with n = 18: 16 to 64 channels, shortcut A; 1,727,962 parameters on CIFAR-10."""
    return _resnet(basic_a, 16, (16, 32, 64), (18, 18, 18), shape[0], classes)


def resnet50(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Bottlenecks 3-4-6-3 of 256 to 2,048 channels, shortcut B; 23,520,842 parameters on CIFAR-10."""
    return _resnet(bottleneck, 64, (256, 512, 1024, 2048), (3, 4, 6, 3), shape[0], classes)
