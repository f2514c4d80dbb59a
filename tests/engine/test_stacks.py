import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gradwire import models
from gradwire.engine import STACK_PATHS as PATHS
from gradwire.engine import Networks, descend, stack
from gradwire.errors import GradwireError
from tests.tasks import of

SHAPE = (1, 8, 8)


def networks_of(name, count):
    return [models.build(name, SHAPE, 10, seed=i).double() for i in range(count)]


def batches(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, size, *SHAPE, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, (count, size), generator=generator)


def normed():
    """A network with batch norm, small enough that a CPU is not busy with one of them."""
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (name, path)
        for name in ("lenet", "mlp", "convnet", "resnet20")
        for path in PATHS
        if name != "resnet20" or path not in ("layered", "rowwise")
    ],
)
def test_each_network_steps_as_under_torchs_own_sgd(path, name):
    nets = networks_of(name, 3)
    stacked, engine = Networks.of(nets), stack(nets[0], of(SHAPE), path=path)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01) for net in nets]
    for step in range(3):
        images, labels = batches(3, 4, step)
        slopes = engine.slopes(stacked, images, labels)
        stacked = descend(stacked, slopes, lr=0.1, momentum=0.9, weight_decay=0.01)
        for i, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            optimizer.zero_grad()
            loss = cross_entropy(net(images[i]), labels[i])
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(slopes.losses[i], loss.detach())
    for i, net in enumerate(nets):
        for key, tensor in stacked.network(i).items():
            torch.testing.assert_close(tensor, dict(net.state_dict(keep_vars=True))[key].detach(), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), st.sampled_from(sorted(PATHS)), st.data())
def test_ragged_batches_are_exact_whatever_fills_them_up(sizes, path, data):
    name = data.draw(st.sampled_from(["lenet", "mlp"]))
    nets, width = networks_of(name, len(sizes)), max(sizes)
    images, labels = batches(len(sizes), width, seed=data.draw(st.integers(0, 99)))
    weights = (torch.arange(width) < torch.tensor(sizes)[:, None]).double()
    engine = stack(nets[0], of(SHAPE), path=path)
    slopes = engine.slopes(Networks.of(nets), images, labels, weights)
    for i, (net, size) in enumerate(zip(nets, sizes, strict=True)):
        if size:
            cross_entropy(net(images[i, :size]), labels[i, :size]).backward()
        for key, p in net.named_parameters():
            due = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(slopes.gradients[key][i], due, rtol=1e-6, atol=1e-12)


def test_networks_that_do_not_step_stay_as_they_are():
    nets = networks_of("resnet20", 2)
    before, engine = Networks.of(nets), stack(nets[0], of(SHAPE), path="functional")
    kept = {key: tensor.clone() for key, tensor in before.network(0).items()}
    slopes = engine.slopes(before, *batches(2, 4))
    after = descend(before, slopes, lr=0.1, momentum=0.9, weight_decay=0.1, active=torch.tensor([False, True]))
    for key, tensor in after.network(0).items():
        assert torch.equal(tensor, kept[key])
    assert all(not m[0].any() and m[1].any() for m in after.momenta.values())
    moved = [key for key, tensor in after.network(1).items() if not torch.equal(tensor, nets[1].state_dict()[key])]
    assert len(moved) == len(kept)


def test_what_mixes_examples_runs_alone_where_padding_would_change_it():
    norm = normed()
    assert stack(norm, of(SHAPE)).path == "functional"
    assert stack(norm, of(SHAPE), mode="eval", ragged=True).path == "functional"
    alone = stack(norm, of(SHAPE), ragged=True)
    assert alone.path == "plain"
    assert "not layered: BatchNorm2d has parameters of its own" in alone.notes[0]
    assert "not functional: padding changes the losses" in alone.notes[0]


class Branching(nn.Module):
    """Does not run under vmap: what it computes depends on a value."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x if x.sum() > 0 else -x)


def test_the_first_choice_depends_on_how_much_one_network_computes():
    assert stack(models.build("lenet", (1, 28, 28), 10), of((1, 28, 28))).path == "layered"
    assert stack(models.build("convnet", (1, 8, 8), 10), of((1, 8, 8))).path == "layered"
    assert stack(models.build("mlp", (1, 28, 28), 10), of((1, 28, 28))).path == "rowwise"
    large = stack(models.build("convnet", (3, 32, 32), 10), of((3, 32, 32)))
    assert (large.path, large.reasons) == ("rowwise", ())
    other = stack(models.build("resnet20", (3, 32, 32), 10), of((3, 32, 32)))
    assert other.path == "plain"


class Scaled(nn.Module):
    """Scales its input: entry-wise, but not known to be."""

    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("strange", [Scaled(), nn.Conv2d(1, 2, 3, groups=1, dilation=2), nn.PReLU()])
def test_layers_that_are_not_known_are_left_to_vmap(strange):
    model = nn.Sequential(strange, nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(1, *SHAPE))
    inside = nn.Sequential(nn.Conv2d(1, 1, 1), *model)
    assert stack(inside, of(SHAPE)).path == "functional"


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_convolutions_of_any_geometry(kernel, stride, padding, bias, size):
    torch.manual_seed(0)
    pool = nn.MaxPool2d(2, 1) if size[0] % 2 else nn.AvgPool2d(2, 1)

    def convolutions():
        first, second = nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.Conv2d(3, 2, kernel, stride, padding, bias=bias)
        return nn.Sequential(first, nn.Tanh(), second, nn.ReLU(), pool, nn.Flatten())

    try:
        width = convolutions()(torch.zeros(1, 2, *size)).shape[1]
    except RuntimeError:
        return  # the kernel, or the pool, is larger than what it is laid over
    nets = [convolutions().append(nn.Linear(width, 10)).double() for _ in range(2)]
    images = torch.rand(2, 3, 2, *size, dtype=torch.float64)
    labels = torch.randint(10, (2, 3))
    found = {path: stack(nets[0], of((2, *size)), path=path) for path in ("layered", "rowwise", "plain")}
    slopes = {path: each.slopes(Networks.of(nets), images, labels) for path, each in found.items()}
    for path in ("layered", "rowwise"):
        torch.testing.assert_close(slopes[path].losses, slopes["plain"].losses)
        for key, due in slopes["plain"].gradients.items():
            torch.testing.assert_close(slopes[path].gradients[key], due, rtol=1e-9, atol=1e-12)


def test_what_one_batch_leaves_behind_is_no_part_of_the_next():
    model = models.build("lenet", SHAPE, 10, seed=0).double()
    engine, due = (stack(model, of(SHAPE), path=path) for path in ("layered", "plain"))
    for step, (count, size) in enumerate([(2, 4), (2, 3), (3, 4), (2, 4), (2, 4)]):
        work = Networks.repeat(model, count), *batches(count, size, seed=step)
        expected = due.slopes(*work).gradients
        for key, gradient in engine.slopes(*work).gradients.items():
            torch.testing.assert_close(gradient, expected[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", ["layered", "rowwise"])
def test_max_pooling_meets_a_relu_from_either_side(path):
    """It is put in front of one: entries that a ReLU cuts off are equal, and none of them may get a slope."""
    torch.manual_seed(0)
    first = nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(3, 2, 2), nn.MaxPool2d(2, 1), nn.ReLU()
    model = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(2, 10)).double()
    for scale in (-1.0, 0.0, 1.0):
        images, labels = torch.randint(0, 2, (2, 3, 2, 8, 8)).double() * scale, torch.randint(10, (2, 3))
        ours, due = (stack(model, of((2, 8, 8)), path=each) for each in (path, "plain"))
        ours, due = (each.slopes(Networks.repeat(model, 2), images, labels) for each in (ours, due))
        for key, gradient in due.gradients.items():
            torch.testing.assert_close(ours.gradients[key], gradient, rtol=1e-9, atol=1e-12)


def test_convolutions_of_groups_and_dilation_run_rowwise():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, dilation=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)).double()
    images, labels = torch.rand(2, 3, 2, 8, 8, dtype=torch.float64), torch.randint(10, (2, 3))
    found = [stack(model, of((2, 8, 8)), path=path) for path in ("rowwise", "plain")]
    ours, due = (each.slopes(Networks.repeat(model, 2), images, labels).gradients for each in found)
    for key, gradient in due.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-9, atol=1e-12)


def test_a_model_that_vmap_cannot_take_runs_alone():
    alone = stack(Branching(), of(SHAPE))
    assert alone.path == "plain"
    assert "not functional: it fails" in alone.notes[0]


def test_frozen_parameters_are_no_part_of_a_network():
    model = models.build("mlp", SHAPE, 10, seed=0)
    model.hidden1.weight.requires_grad_(False)
    assert "not rowwise: some parameters are frozen" in stack(model, of(SHAPE)).notes[0]
    for path in ("functional", "plain"):
        stacked = Networks.repeat(model, 2)
        slopes = stack(model, of(SHAPE), path=path).slopes(
            stacked, *(t.float() if t.is_floating_point() else t for t in batches(2, 3))
        )
        assert "hidden1.weight" not in slopes.gradients
        assert "hidden1.bias" in slopes.gradients


@pytest.mark.parametrize("path", PATHS)
def test_dropout_draws_for_each_network_its_own(path):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).double()
    images, labels = batches(1, 4)
    images, labels = images.expand(3, -1, -1, -1, -1), labels.expand(3, -1)
    slopes = stack(model, of(SHAPE), path=path).slopes(Networks.repeat(model, 3), images, labels)
    assert len({float(loss) for loss in slopes.losses}) == 3


def test_steps_of_which_the_gradient_is_never_formed_are_the_same():
    nets, (images, labels) = networks_of("mlp", 2), batches(2, 3)
    ends = []
    for path in ("layered", "rowwise", "plain"):
        for decay in (0.0, 0.1):
            before = Networks.of(nets)
            ends.append(
                descend(before, stack(nets[0], of(SHAPE), path=path).slopes(before, images, labels), 0.1, 0.0, decay)
            )
    for fused, plain in zip(ends[:4], ends[4:] * 2, strict=True):
        for key, due in plain.parameters.items():
            torch.testing.assert_close(fused.parameters[key], due, rtol=1e-9, atol=1e-12)


def test_copies_share_nothing():
    model = models.build("mlp", SHAPE, 10, seed=0)
    kept = copy.deepcopy(model.state_dict())
    stacked = Networks.repeat(model, 2)
    stacked.parameters["head.bias"][0] += 1
    assert not torch.equal(stacked.parameters["head.bias"][0], stacked.parameters["head.bias"][1])
    assert torch.equal(model.head.bias, kept["head.bias"])


def test_what_cannot_be_stacked():
    with pytest.raises(GradwireError, match="at least one"):
        Networks.of([])
    with pytest.raises(GradwireError, match="cannot be stacked"):
        Networks.of([models.build("mlp", SHAPE, 10), models.build("mlp", SHAPE, 9)])
