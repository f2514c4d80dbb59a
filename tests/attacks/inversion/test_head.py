"""The head is found by what it does: wherever it stands, whatever it is made of, and whatever else looks like one."""

import re

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize, relu

from gradwire import capture
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.labels.head import outputs, trace
from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy
from tests.tasks import of

SHAPE, CLASSES, WIDTH = (3, 8, 8), 10, 24
utilities = torch.nn.utils


class Net(nn.Module):
    """Features of two layers, and a head of one's own."""

    def __init__(self, head, behind=lambda z: z, width=WIDTH):
        super().__init__()
        self.head, self.behind = head, behind
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.ReLU())

    def forward(self, x):
        return self.behind(self.head(self.body(x)))


class Decoys(Net):
    """The head is registered first; behind it stand a hidden layer as wide, and a projection that nobody uses."""

    def __init__(self):
        super().__init__(nn.Linear(WIDTH, CLASSES))
        self.squeeze, self.widen = nn.Linear(WIDTH, CLASSES), nn.Linear(CLASSES, WIDTH)
        self.projection = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        h = self.body(x)
        return self.head(h + relu(self.widen(relu(self.squeeze(h)))))


class Squeezed(nn.Module):
    """A 1×1 convolution with a mean over positions is the head; the only linear layers weigh channels."""

    def __init__(self):
        super().__init__()
        self.head, self.conv = nn.Conv2d(16, CLASSES, 1), nn.Conv2d(3, 16, 3, 2, 1)
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)

    def forward(self, x):
        x = relu(self.conv(x))
        weights = torch.sigmoid(self.up(relu(self.down(x.mean((2, 3))))))
        return self.head(x * weights[..., None, None]).mean((2, 3))


class Product(nn.Module):
    """A head that is no layer: h @ W + b, classes being columns."""

    def __init__(self, bias=True):
        super().__init__()
        self.w = nn.Parameter(0.2 * torch.randn(WIDTH, CLASSES))
        self.b = nn.Parameter(torch.zeros(1, CLASSES)) if bias else None

    def forward(self, h):
        return h @ self.w if self.b is None else h @ self.w + self.b


class Scaled(nn.Module):
    """Logits times a number that is learned."""

    def __init__(self, start):
        super().__init__()
        self.inner, self.factor = nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.tensor(float(start)))

    def forward(self, h):
        return self.factor * self.inner(h)


class Tied(nn.Module):
    """The weight makes features, too: its gradient holds both; the bias is the head's alone."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(192, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        h = relu(self.body(x.flatten(1)))
        return self.head(h + torch.softmax(h @ self.head.weight.mT, 1) @ self.head.weight)


class Gated(nn.Module):
    """Each example's logits are times a number of its own."""

    def __init__(self):
        super().__init__()
        self.head, self.gate = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, 1)

    def forward(self, h):
        return self.head(h) * torch.exp(3 * self.gate(h))


class Cosine(nn.Module):
    """Features and weights of norm one."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(CLASSES, WIDTH))

    def forward(self, h):
        return 8 * normalize(h, dim=1) @ normalize(self.w, dim=1).mT


def lazy():
    model = Net(nn.LazyLinear(CLASSES))
    model(torch.zeros(1, *SHAPE))
    return model


def frozen(*names):
    model = Net(nn.Linear(WIDTH, CLASSES))
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def calibrated():
    norm = nn.BatchNorm1d(CLASSES)
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2).mul_(torch.tensor([1.0, -1.0] * 5))
    norm.requires_grad_(False)
    return Net(nn.Sequential(nn.Linear(WIDTH, CLASSES), norm))


def linear(**options):
    return nn.Linear(WIDTH, CLASSES, **options)


MODELS = {
    "decoys": (Decoys, "head.bias", "head.weight"),
    "a 1×1 convolution": (Squeezed, "head.bias", "head.weight"),
    "a product": (lambda: Net(Product()), "head.b", "head.w"),
    "a product without bias": (lambda: Net(Product(bias=False)), None, "head.w"),
    "no bias": (lambda: Net(linear(bias=False)), None, "head.weight"),
    "a temperature": (lambda: Net(linear(), lambda z: z / 4), "head.bias", "head.weight"),
    "turned round": (lambda: Net(linear(), lambda z: -3 * z), "head.bias", "head.weight"),
    "a view": (lambda: Net(linear(), lambda z: z.view(-1, 2, 5).flatten(1)), "head.bias", "head.weight"),
    "a learned scale": (lambda: Net(Scaled(5.0)), "head.inner.bias", "head.inner.weight"),
    "log-probabilities": (lambda: Net(linear(), lambda z: z.log_softmax(1)), "head.bias", "head.weight"),
    "lazy": (lazy, "head.bias", "head.weight"),
    "weight norm": (lambda: Net(utilities.weight_norm(linear())), "head.bias", None),
    "parametrized": (lambda: Net(utilities.parametrizations.weight_norm(linear())), "head.bias", None),
    "tied": (Tied, "head.bias", None),
    "frozen weight": (lambda: frozen("head.weight"), "head.bias", None),
    "frozen bias": (lambda: frozen("head.bias"), None, "head.weight"),
    "a gate": (lambda: Net(Gated()), None, "head.head.weight"),
    "a norm behind": (calibrated, "head.0.bias", None),
    "a tuple": (lambda: Net(linear(), lambda z: (z, None)), "head.bias", "head.weight"),
    "bfloat16": (lambda: Net(linear()).bfloat16(), "head.bias", "head.weight"),
}


def victim(model, batch, number, **options):
    random = torch.Generator().manual_seed(number)
    images, labels = torch.rand(batch, *SHAPE, generator=random), torch.randint(CLASSES, (batch,), generator=random)
    return capture(model, images, labels, targets_known=False, mode="eval", freeze=False, **options), labels


def found(model, batch, victims=10, **options):
    """The mean share of labels that were found, and whether all were said to be exact."""
    views, labels = zip(*(victim(model, batch, number, **options) for number in range(victims)), strict=True)
    inferred = [pose(view, "adaptive").inferred for view in views]
    right = label_accuracy(torch.stack([each.targets for each in inferred]), torch.stack(labels))
    return float(right.mean()), [each.exact for each in inferred]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_head_is_found_wherever_it_is(name):
    torch.manual_seed(0)
    make, bias, weight = MODELS[name]
    model = make()
    head = trace(model, "eval", of(SHAPE))
    assert (head.bias, head.weight) == (bias, weight)
    assert outputs(model, "eval", of(SHAPE)) == CLASSES
    assert found(model, 1) == (1.0, [True] * 10)
    right, exact = found(model, 8)
    assert right > (0.9 if bias else 0.75)
    assert not any(exact)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: frozen("head.weight", "head.bias"), "head.bias and head.weight, which would tell them, are frozen"),
        (
            lambda: Net(utilities.weight_norm(linear(bias=False))),
            "no parameter .*the weight of 'head' is made of other",
        ),
        (lambda: Net(Cosine()), "no parameter of Net shows the slopes at its logits"),
        (lambda: Net(nn.Sequential(linear(), nn.Tanh())), "no parameter of Net shows the slopes at its logits"),
    ],
)
def test_labels_that_no_parameter_tells_are_refused_with_the_reason(make, reason):
    torch.manual_seed(0)
    problem = pose(victim(make(), 2, 0)[0], "naive")
    assert problem.targets.shape == (2, 0)
    assert re.match(f"labels cannot be inferred: {reason}", problem.inferred.reason)


def test_a_norm_in_training_mode_mixes_examples_and_has_a_bias_of_its_own():
    torch.manual_seed(0)
    model = Net(nn.Sequential(linear(), nn.BatchNorm1d(CLASSES)))
    head = trace(model, "train", of(SHAPE))
    assert (head.bias, head.weight) == ("head.1.bias", None)


def test_slopes_are_those_of_the_logits_in_their_own_scale():
    torch.manual_seed(0)
    model, random = Net(linear(), lambda z: -3 * z), torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, *SHAPE, generator=random), torch.tensor([3, 3, 7, 1])
    logits = model(images)
    due = (logits.softmax(1) - nn.functional.one_hot(labels, CLASSES)).mean(0)
    gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), list(model.parameters()))
    update = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    head = trace(model, "eval", of(SHAPE))
    torch.testing.assert_close(head.slopes(update), due.detach().double(), rtol=1e-4, atol=1e-6)
    nothing = {name: torch.zeros_like(g) if name == "head.bias" else g for name, g in update.items()}
    by_weight = head.slopes(nothing)
    assert torch.equal(by_weight < 0, due < 0)


def test_a_network_that_gives_no_logits_or_fails_on_noise_is_refused():
    for behind, words in (
        (lambda z: z[:, 0], "shape"),
        (lambda z: z @ torch.zeros(3, 3), "the network fails on noise"),
    ):
        with pytest.raises(GradwireError, match=words):
            trace(Net(linear(), behind), "eval", of(SHAPE))


def test_tracing_leaves_the_model_and_the_global_generator_as_they_were():
    model = Net(nn.Sequential(nn.Dropout(), nn.BatchNorm1d(WIDTH), linear()))
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    trace(model, "train", of(SHAPE))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
