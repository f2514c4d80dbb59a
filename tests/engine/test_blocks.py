"""Networks of today's blocks have the gradients of plain autograd, by a path that says why it is no faster one."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, layer_norm, scaled_dot_product_attention

from gradwire import capture, invert, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.memory import row_bytes
from gradwire.engine import engine
from gradwire.models.mode import copied, set_mode
from tests.tasks import of

SHAPE, CLASSES = (3, 16, 16), 10


class LayerNorm2d(nn.LayerNorm):
    """ConvNeXt's: over channels."""

    def forward(self, x):
        x = layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a norm, two layers at every position, and a scale for each channel."""

    def __init__(self, width=8):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.narrow(gelu(self.widen(y)))).permute(0, 3, 1, 2)


class ViT(nn.Module):
    """A class token, positions, and a block of attention by the function or by PyTorch's layer."""

    def __init__(self, layer=False, width=16):
        super().__init__()
        self.patches, self.layer = nn.Conv2d(3, width, 4, 4), layer
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)
        self.mix = nn.MultiheadAttention(width, 2, batch_first=True) if layer else nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        y = self.norm(x)
        if self.layer:
            y = self.mix(y, y, y, need_weights=False)[0]
        else:
            q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.mix(y).chunk(3, -1))
            y = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(y))[:, 0])


class Swin(nn.Module):
    """Attention within windows of 2×2 patches, as they are and shifted by one, with a bias for relative positions."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads, self.patches, self.norm = heads, nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.mix, self.out, self.head = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, CLASSES)
        self.table = nn.Parameter(0.1 * torch.randn(9, heads))
        places = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None] + 1
        self.register_buffer("index", (3 * apart[0] + apart[1]).flatten())

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        for shift in (0, 1):
            moved = torch.roll(self.norm(x), (-shift, -shift), (1, 2))
            x = x + torch.roll(self.attend(moved, shift), (shift, shift), (1, 2))
        return self.head(x.mean((1, 2)))

    def attend(self, x, shift):
        batch, side, _, width = x.shape
        windows = x.view(batch, side // 2, 2, side // 2, 2, width).transpose(2, 3).reshape(-1, 4, width)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.mix(windows).chunk(3, -1))
        scores = q @ k.mT / q.shape[-1] ** 0.5 + self.table[self.index].view(4, 4, -1).permute(2, 0, 1)
        if shift:  # what the roll brought together from opposite edges does not attend
            edge = (torch.arange(side, device=x.device) == side - 1).long()
            region = (2 * edge[:, None] + edge).view(side // 2, 2, side // 2, 2).transpose(1, 2).reshape(-1, 4)
            hidden = region[:, :, None] != region[:, None]
            scores = scores.unflatten(0, (batch, -1)).masked_fill(hidden[None, :, None], -100.0).flatten(0, 1)
        mixed = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return mixed.view(batch, side // 2, side // 2, 2, 2, width).transpose(2, 3).reshape(x.shape)


class MobileBlock(nn.Module):
    """A depthwise convolution with squeeze and excitation by 1×1 convolutions, and activations in place."""

    def __init__(self, width=16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.depthwise, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width)
        self.down, self.up, self.act = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1), nn.SiLU(inplace=True)
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        y = self.act(self.norm2(self.depthwise(x)))
        weights = torch.sigmoid(self.up(self.act(self.down(y.mean((2, 3), keepdim=True)))))
        return self.head(x + y * weights).mean((2, 3))


class Recurrent(nn.Module):
    """Two layers, in both directions."""

    def __init__(self):
        super().__init__()
        self.rows = nn.LSTM(48, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x):
        return self.head(self.rows(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


class Routed(nn.Module):
    """Each example goes to the expert that it likes best: the path depends on values."""

    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = nn.Linear(768, 16), nn.Linear(16, 3), nn.Linear(16, CLASSES)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        h = torch.tanh(self.body(x.flatten(1)))
        shares, out = self.gate(h).softmax(1), torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            rows = (shares.argmax(1) == number).nonzero()[:, 0]
            out = out.index_add(0, rows, expert(h[rows]) * shares[rows, number : number + 1])
        return self.head(h + out)


def convnext():
    stem = nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8)
    return nn.Sequential(*stem, ConvNeXtBlock(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))


def partly_frozen():
    """The usual fine-tuning: the first half sends nothing and its norms are in evaluation mode."""
    model = models.build("resnet20", SHAPE, CLASSES, seed=0)
    parts = list(model.children())
    for part in parts[: len(parts) // 2]:
        part.requires_grad_(False).eval()
    norms = [module for module in parts[len(parts) // 2].modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].weight.requires_grad_(False)
    return model


def normed(wrap):
    layers = wrap(nn.Conv2d(3, 16, 3, 2, 1)), nn.GroupNorm(2, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, wrap(nn.Linear(16, CLASSES)))


utilities = torch.nn.utils
BLOCKS = {
    "ResNet": (lambda: models.build("resnet20", SHAPE, CLASSES, seed=0), "batched"),
    "ResNet, partly frozen": (partly_frozen, "batched"),
    "ConvNeXt": (convnext, "plain"),
    "ViT": (ViT, "functional"),
    "ViT by a layer": (lambda: ViT(layer=True), "functional"),
    "Swin": (Swin, "functional"),
    "squeeze and excitation": (MobileBlock, "batched"),
    "LSTM": (Recurrent, "plain"),
    "experts": (Routed, "plain"),
    "weight norm": (lambda: normed(utilities.weight_norm), "functional"),
    "parametrized weight norm": (lambda: normed(utilities.parametrizations.weight_norm), "functional"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:There is a performance drop")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_computed_as_plain_autograd_does_and_attacked(name, mode):
    torch.manual_seed(0)
    make, path = BLOCKS[name]
    model, images, labels = make(), torch.rand(2, *SHAPE), torch.tensor([3, 7])
    exact = set_mode(copied(model).double(), mode)
    trained = {key: p for key, p in exact.named_parameters() if p.requires_grad}
    due = torch.autograd.grad(cross_entropy(exact(images.double()), labels), list(trained.values()))
    chosen = engine(copied(model).double(), mode, of(SHAPE), 2)
    found = chosen.gradients(images[None].double(), labels[None])
    assert (chosen.path, found.keys()) == (path, trained.keys())
    assert path == "batched" or chosen.reasons
    for key, gradient in zip(trained, due, strict=True):
        torch.testing.assert_close(found[key].full()[0], gradient, rtol=1e-6, atol=1e-10)
    view = capture(model, images, labels, "powersgd:rank=2", mode=mode, targets_known=False)
    assert pose(view, "adaptive").targets.tolist() == [3, 7]
    guess = invert(capture(model, images, labels, "topk:ratio=0.5", mode=mode), "iga", iterations=2)
    assert guess.inputs.shape == (1, 2, *SHAPE)
    assert guess.objective.isfinite().all()
    assert row_bytes(model, of(SHAPE), 2) > 4 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["ConvNeXt", "Swin", "ViT", "squeeze and excitation", "LSTM"])
def test_blocks_in_bfloat16_are_attacked_in_float32(name):
    torch.manual_seed(0)
    model, images, labels = BLOCKS[name][0]().bfloat16(), torch.rand(2, *SHAPE), torch.tensor([3, 7])
    view = capture(model, images, labels, targets_known=False)
    assert pose(view, "adaptive").targets.tolist() == [3, 7]
    chosen = engine(view.model, view.mode, view.task, 2)
    assert {g.full().dtype for g in chosen.gradients(images[None], labels[None]).values()} == {torch.float32}
    guess = invert(capture(model, images, labels), "iga", iterations=2)
    assert guess.objective.isfinite().all()
