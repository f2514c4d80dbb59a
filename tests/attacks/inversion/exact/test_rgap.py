"""Single images behind convolutions, from the last layer to the first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import certify, pose
from gradwire.attacks.inversion.exact import rgap as module
from gradwire.attacks.inversion.exact.chain import Layer
from gradwire.attacks.inversion.exact.equations import Equations, added
from gradwire.attacks.inversion.exact.replay import Replay
from gradwire.attacks.inversion.exact.rgap import Rgap
from gradwire.attacks.inversion.row_choice import EXPLAINED
from gradwire.errors import GradwireError
from gradwire.schemes.measurement import Dense, LeftSketch
from tests.attacks.inversion.exact.networks import Cnn6, convolutions


@pytest.fixture(scope="module")
def lenet(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


class Functional(nn.Module):
    """Layers that are modules, and what stands before and between them, which is not."""

    def __init__(self, first=0):
        super().__init__()
        self.taken, self.act, self.head = nn.Conv2d(1, 9, 3, 2, 1), nn.Tanh(), nn.Linear(144, 10)
        self.first = first

    def forward(self, images):
        return self.head(self.act(self.taken(images[..., self.first :].flip(3) * 2 - 1)).flatten(1))


class Branching(nn.Module):
    """A residual block."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second, self.head = (
            nn.Conv2d(1, 4, 3, 1, 1),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, 1, 1),
            nn.Linear(256, 10),
        )

    def forward(self, images):
        features = self.act(self.first(images))
        return self.head((features + self.second(features)).flatten(1))


class Constant(nn.Module):
    """No layers."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, images):
        return self.bias + images.flatten(1)[:, :10]


def posed(model, digits, scheme="none", place=0, knowledge="adaptive", mode="eval", **options):
    images, labels = digits.batch([place])
    return pose(gradwire.capture(model, images, labels, scheme, mode=mode, **options), knowledge), images


def found(problem):
    return Rgap.of(problem.view).solution(problem, torch.Generator().manual_seed(0))


NETWORKS = {
    "leaky": convolutions(),
    "steep": convolutions(negative_slope=0.2),
    "tanh": convolutions(nn.Tanh),
    "sigmoid": convolutions(nn.Sigmoid, seed=1),
    "relu": convolutions(nn.ReLU, channels=(16, 32, 32)),
    "inplace": convolutions(inplace=True),
    "norm": convolutions(norm=True),
    "no bias": convolutions(bias=False, negative_slope=0.2),
    "no bias at all": convolutions(bias=False, head=False, negative_slope=0.2),
    "functional": Functional(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_image_is_exact(digits, name):
    model = NETWORKS[name]
    for place in (0, 5):
        problem, images = posed(model, digits, place=place)
        solution = found(problem)
        torch.testing.assert_close(solution.inputs.float(), images, atol=1e-3, rtol=0)
        assert solution.determined
        assert Replay([problem], None).answer(0, solution.inputs).off < 1e-3 * EXPLAINED
        wide = found(posed(gradwire.models.mode.copied(model).double(), digits, place=place)[0])
        torch.testing.assert_close(wide.inputs, images.double(), atol=1e-9, rtol=0)
        assert wide.determined


@pytest.mark.parametrize("scheme", ["powersgd:rank=8", "randomk:ratio=1"])
def test_other_wires_that_hold_the_whole_gradient(digits, scheme):
    problem, images = posed(convolutions(), digits, scheme)
    torch.testing.assert_close(found(problem).inputs.float(), images, atol=1e-3, rtol=0)


def test_sketches_of_rank_one_are_enough_for_lenet(lenet, digits):
    problem, images = posed(lenet, digits, "powersgd:rank=1")
    kinds = {name: each.kind for name, each in certify(problem).parameters.items()}
    assert [kinds[f"{name}.weight"] for name in ("conv1", "conv2", "conv3", "head")] == ["sketch"] * 3 + ["all"]
    solution = found(problem)
    torch.testing.assert_close(solution.inputs.float(), images, atol=1e-3, rtol=0)
    assert solution.determined


def test_the_attack_says_that_it_is_solved_and_the_truth_does_not_reach_it(lenet, digits):
    images, labels = (t.clone() for t in digits.batch([3]))
    views = [
        gradwire.capture(lenet, images, labels, scheme, mode="eval", targets_known=False)
        for scheme in ("none", "powersgd:rank=1", "topk:ratio=0.5", "noise:std=0.001", "signsgd")
    ]
    before = gradwire.invert(views, "exact")
    assert before.solved == (True, True, False, False, False)
    assert [bool(e < 1e-3) for e in (before.inputs - images).abs().flatten(1).amax(1)] == list(before.solved)
    assert before.targets.flatten().tolist()[:2] == [int(labels)] * 2
    assert "exact: rgap solved 2 of 5 victims" in before.notes
    assert any("rgap needs all of the gradient of 'head.weight'; a part was sent" in note for note in before.notes)
    images.fill_(0.5)
    labels.zero_()
    assert torch.equal(gradwire.invert(views, "exact").inputs, before.inputs)


def test_what_decodes_to_another_gradient_contradicts_itself(lenet, digits):
    with pytest.raises(
        GradwireError, match=r"rgap: the equations of 'conv\d' contradict each other; no one image has them"
    ):
        found(posed(lenet, digits, "powersgd:rank=1", knowledge="naive")[0])


def test_several_local_steps_are_not_one_gradient(lenet, digits):
    images, labels = digits.batch([0])
    options = {"local_steps": 3, "local_batch": 1, "lr": 0.5}
    view = gradwire.capture(lenet, images, labels, mode="eval", **options)
    assert gradwire.invert(view, "exact").solved == (False,)


@pytest.mark.parametrize("change", [lambda x: 1.02 * x, lambda x: x.flip(-1), lambda x: x.roll(1)])
def test_another_image_does_not_explain_what_was_sent(lenet, digits, change, monkeypatch):
    solved = Equations.solved

    def changed(self):
        return change(solved(self)) if self.layer.name == "conv1" else solved(self)

    monkeypatch.setattr(Equations, "solved", changed)
    guess = gradwire.invert(posed(lenet, digits)[0].view, "exact")
    assert guess.solved == (False,)
    assert float(guess.objective) > EXPLAINED


def test_an_image_that_rounding_decides_is_not_called_determined(digits):
    """Two channels that 1×1 convolutions hardly tell apart: other images explain the gradient as well."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(128, 10))
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].weight[1, 0] += 3e-6
    images = torch.cat([digits.batch([0])[0], digits.batch([1])[0]], 1)
    problem = pose(gradwire.capture(model, images, digits.batch([0])[1], mode="eval"), "adaptive")
    solution = found(problem)
    assert Replay([problem], None).answer(0, solution.inputs).off < EXPLAINED
    assert float((solution.inputs - images).abs().max()) > 0.01
    assert not solution.determined


def test_twins_are_refused(digits):
    """Two classes, no bias: x and another multiple of it leave the same gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1, bias=False), nn.LeakyReLU(), nn.Flatten(), nn.Linear(256, 2, bias=False)
    )
    images, labels = digits.batch([0])[0], torch.tensor([1])
    with torch.no_grad():
        model[3].weight *= 8 / (model(images)[0, 1] - model(images)[0, 0])
    problem = pose(gradwire.capture(model, images, labels, mode="eval"), "adaptive")
    with pytest.raises(GradwireError, match=r"2 twins would give the gradient of '3.weight', which has no bias"):
        found(problem)
    assert gradwire.invert(problem.view, "exact").solved == (False,)


REFUSED = [
    (lambda: convolutions(nn.GELU), r"activations with an inverse between layers; '1' is GELU"),
    (lambda: convolutions(negative_slope=-0.1), r"with an inverse between layers; '1' is LeakyReLU"),
    (lambda: nn.Sequential(convolutions()[:2], nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)), "'1' is MaxPool2d"),
    (Branching, r"one after another; 'head' receives something else than what 'second' gives"),
    (lambda: nn.Sequential(nn.AvgPool2d(3, 1, 1), *convolutions()), "'1' by itself; what comes before mixes them"),
    (lambda: nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), "a linear layer as the last one; '0' is a convolution"),
    (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1, padding_mode="reflect"), nn.Flatten(), nn.Linear(256, 10)),
        "plain",
    ),
    (Constant, "needs linear or convolutional layers; there are none"),
]


@pytest.mark.parametrize(("build", "reason"), REFUSED)
def test_other_networks_are_refused_by_name(digits, build, reason):
    with pytest.raises(GradwireError, match=reason):
        Rgap.of(posed(build(), digits)[0].view)


def test_layers_that_are_run_twice_training_and_batches_are_refused(digits, monkeypatch):
    shared = nn.Conv2d(4, 4, 3, 1, 1)
    twice = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.Tanh(), shared, nn.Tanh(), shared, nn.Flatten(), nn.Linear(256, 10)
    )
    with pytest.raises(GradwireError, match="layers each of which is run once"):
        Rgap.of(posed(twice, digits)[0].view)
    for model in (convolutions(norm=True), nn.Sequential(*convolutions()[:-1], nn.Dropout(0.5), nn.Linear(128, 10))):
        with pytest.raises(GradwireError, match="in evaluation mode; it is in training mode"):
            Rgap.of(posed(model, digits, mode="train")[0].view)
        assert Rgap.of(posed(model, digits)[0].view)
    assert Rgap.of(posed(convolutions(), digits, mode="train")[0].view)
    with pytest.raises(GradwireError, match="of one image; the batch has 2"):
        Rgap.of(gradwire.capture(convolutions(), *digits.batch([0, 1]), mode="eval"))
    monkeypatch.setattr(module, "LARGEST", 255)
    with pytest.raises(GradwireError, match="for 255 numbers at most; 256 enter '2'"):
        Rgap.of(posed(convolutions(), digits)[0].view)


def test_the_rank_analysis_counts_what_was_sent(digits):
    # Of 4·8·8 numbers the outputs tell 8·4·4, and a sketch of rank r 9·r more of each channel.
    with pytest.raises(GradwireError, match="200 independent equations at most for the 256 numbers that enter '2'"):
        found(posed(convolutions(), digits, "powersgd:rank=2")[0])
    with pytest.raises(GradwireError, match="what was sent leaves numbers open that enter '2'"):
        found(posed(convolutions(), digits, "powersgd:rank=4")[0])
    with pytest.raises(GradwireError, match="608 independent equations at most for the 2,048 numbers that enter '2'"):
        Rgap.of(posed(convolutions(channels=(32, 2, 8)), digits)[0].view)


def test_numbers_that_the_network_does_not_read_are_left_open(digits):
    problem, images = posed(Functional(first=1), digits)
    solution = found(problem)
    assert not solution.determined
    torch.testing.assert_close(solution.inputs[..., 1:].float(), images[..., 1:], atol=1e-3, rtol=0)
    skipping = nn.Sequential(nn.Conv2d(1, 80, 3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(320, 10))
    with pytest.raises(GradwireError, match="what was sent leaves numbers open that enter '0'"):
        found(posed(skipping, digits)[0])


def test_frozen_layers_leave_their_outputs_alone(digits):
    model = convolutions()
    model[4].requires_grad_(False)
    problem, images = posed(model, digits)
    torch.testing.assert_close(found(problem).inputs.float(), images, atol=1e-3, rtol=0)
    model[2].requires_grad_(False)
    with pytest.raises(GradwireError, match="128 independent equations at most for the 256 numbers that enter '2'"):
        found(posed(model, digits)[0])


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([None, 2]),
    st.integers(0, 9),
)
def test_the_equations_are_those_of_the_layer(kernel, stride, padding, dilation, rank, seed):
    """Their normal equations are those of all equations written down, and their solution is the layer's input."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=random, dtype=torch.float64)  # noqa: E731
    layer = Layer("a", draw(9, 2, kernel, kernel), draw(9), (2, 5, 6), (stride, padding, dilation), ())
    inputs = draw(1, 2, 5, 6)
    z = layer(inputs) + layer.bias.view(1, -1, 1, 1)
    steep, slopes = draw(*z.shape).abs() + 0.5, draw(*z.shape)
    weight = slopes[0].flatten(1) @ layer.patches(inputs)[0].mT
    left = draw(9, rank or 9)
    terms = [Dense(weight[None]) if rank is None else LeftSketch((weight.mT @ left)[None], left[None])]
    equations = Equations.of(layer, terms, z.expand(2, -1, -1, -1), steep, slopes.expand(2, -1, -1, -1), random)

    def written(x):
        x = x.view(1, 2, 5, 6)
        return torch.cat(
            [(steep * layer(x)).flatten(), weigh**0.5 * (equations.slopes[0] @ layer.patches(x)[0].mT).flatten()]
        )

    matrix, weigh = equations._normal()
    columns = torch.stack([written(unit) for unit in torch.eye(60, dtype=torch.float64)], 1)
    torch.testing.assert_close(matrix, columns.mT @ columns)
    if torch.linalg.cond(columns) < 1e4:
        torch.testing.assert_close(equations.solved()[0].view(1, 2, 5, 6), inputs, atol=1e-7, rtol=1e-7)
    if torch.linalg.matrix_rank(columns) < 60:
        with pytest.raises(GradwireError, match="enter 'a'"):
            equations.solved()


def test_blocks_are_added_where_they_belong():
    blocks = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    assert added(blocks, torch.tensor([[1, 2], [0, 2]]), 2).tolist() == [[1.0, 2.0], [3.0, 12.0]]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("network", ["lenet", "cnn6"])
def test_networks_give_images_of_cifar_away(network):
    pictures = data.load("cifar10", "test", limit=1)
    torch.manual_seed(0)
    lenet = models.build("lenet", pictures.shape, pictures.outputs, pictures.mean, pictures.std, seed=0)
    view = gradwire.capture(lenet if network == "lenet" else Cnn6(), *pictures.batch([0]), mode="eval")
    guess = gradwire.invert(view, "exact")
    assert guess.solved == (True,)
    torch.testing.assert_close(guess.inputs[0], pictures.batch([0])[0], atol=1e-3, rtol=0)
