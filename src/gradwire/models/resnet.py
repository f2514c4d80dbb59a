"""Residual networks for small images (He et al. 2016, "Deep residual learning for image recognition").

All have a 3×3 stem of stride 1 without max-pooling, batch norm, global average pooling, and PyTorch's initialisation
(Kaiming uniform with a = √5). ReLUs never work in place: double backward and torch.func need what they would overwrite.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

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


def _conv(channels: int, width: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)


def _shortcut(channels: int, width: int, stride: int, option: str) -> nn.Module:
    """The identity where the shape stays; else the paper's option A (`PadShortcut`) or B (a 1×1 convolution)."""
    if stride == 1 and channels == width:
        return nn.Identity()
    if option == "A":
        return PadShortcut(width - channels, stride)
    return nn.Sequential(OrderedDict(conv=_conv(channels, width, 1, stride), norm=nn.BatchNorm2d(width)))


def _body(*convolutions: nn.Conv2d) -> nn.Sequential:
    """The convolutions, with a batch norm behind each and a ReLU before each but the first."""
    layers = OrderedDict[str, nn.Module]()
    for i, conv in enumerate(convolutions, start=1):
        if i > 1:
            layers[f"relu{i - 1}"] = nn.ReLU()
        layers |= {f"conv{i}": conv, f"norm{i}": nn.BatchNorm2d(conv.out_channels)}
    return nn.Sequential(layers)


def basic(channels: int, width: int, stride: int, option: str = "B") -> nn.Module:
    """Two 3×3 convolutions, with shortcut A in the paper's networks for CIFAR and B in those for ImageNet."""
    body = _body(_conv(channels, width, 3, stride), _conv(width, width, 3))
    return Residual(body, _shortcut(channels, width, stride, option))


def bottleneck(channels: int, width: int, stride: int) -> nn.Module:
    """1×1, 3×3 and 1×1 convolutions, `width` channels out of a quarter as many inside, with shortcut B.

    The stride is the 3×3 convolution's, as in every later implementation; the paper gave it to the first 1×1.
    """
    inner = width // 4
    body = _body(_conv(channels, inner, 1), _conv(inner, inner, 3, stride), _conv(inner, width, 1))
    return Residual(body, _shortcut(channels, width, stride, "B"))


def _resnet(
    block: Block, stem: int, widths: Sequence[int], depths: Sequence[int], channels: int, classes: int
) -> nn.Sequential:
    """Stack stages of blocks; every stage but the first halves the image."""
    layers = OrderedDict[str, nn.Module](conv=_conv(channels, stem, 3), norm=nn.BatchNorm2d(stem), relu=nn.ReLU())
    before = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        first = block(before, width, 1 if stage == 1 else 2)
        layers[f"stage{stage}"] = nn.Sequential(first, *(block(width, width, 1) for _ in range(depth - 1)))
        before = width
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(before, classes))
    return nn.Sequential(layers)


def resnet18(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Basic blocks 2-2-2-2 of 64 to 512 channels, shortcut B; 11,173,962 parameters on CIFAR-10."""
    return _resnet(basic, 64, (64, 128, 256, 512), (2, 2, 2, 2), shape[0], classes)


def resnet20(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The paper's CIFAR network with n = 3: 16 to 64 channels, shortcut A; 269,722 parameters on CIFAR-10."""
    return _resnet(partial(basic, option="A"), 16, (16, 32, 64), (3, 3, 3), shape[0], classes)


def resnet110(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The paper's CIFAR network with n = 18: 16 to 64 channels, shortcut A; 1,727,962 parameters on CIFAR-10."""
    return _resnet(partial(basic, option="A"), 16, (16, 32, 64), (18, 18, 18), shape[0], classes)


def resnet50(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Bottlenecks 3-4-6-3 of 256 to 2,048 channels, shortcut B; 23,520,842 parameters on CIFAR-10."""
    return _resnet(bottleneck, 64, (256, 512, 1024, 2048), (3, 4, 6, 3), shape[0], classes)
