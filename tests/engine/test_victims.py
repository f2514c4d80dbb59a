"""Both paths of the engine against plain autograd, in float64: gradients, objectives, and the objectives' slopes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gradwire import capture, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.match import cosine
from gradwire.engine import PATHS, engine
from gradwire.schemes import StackedMeasurement
from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Support
from gradwire.training import gradient
from tests.tasks import of

SHAPE = (3, 10, 10)


def batches(victims, batch, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(victims, batch, *shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (victims, batch), generator=generator)


def ends(*layers):
    """A network of double precision that ends in four classes, whatever comes before."""
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LazyLinear(4)).double()
    network(torch.rand(2, *SHAPE, dtype=torch.float64))
    return network


def agrees_with_autograd(model, mode, path, victims=2, batch=2, seed=0):
    """Each victim's gradient, and the slope in its images of a projection of it, equal plain autograd's."""
    images, labels = batches(victims, batch, seed)
    together = images.clone().requires_grad_()
    found = PATHS[path](model, mode, of(SHAPE))(together, labels)
    projections = {name: torch.randn_like(g.full()) for name, g in found.items()}
    total = sum((g.full() * projections[name]).sum() for name, g in found.items())
    (slope,) = torch.autograd.grad(total, together)
    for victim in range(victims):
        alone = images[victim].clone().requires_grad_()
        model.train(mode == "train")
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        value = cross_entropy(model(alone), labels[victim])
        exact = torch.autograd.grad(value, list(parameters.values()), create_graph=True, allow_unused=True)
        pairs = {name: g for name, g in zip(parameters, exact, strict=True) if g is not None}
        for name, expected in pairs.items():
            torch.testing.assert_close(found[name].full()[victim], expected, atol=1e-10, rtol=1e-10)
        projected = sum((g * projections[name][victim]).sum() for name, g in pairs.items())
        (expected,) = torch.autograd.grad(projected, alone)
        torch.testing.assert_close(slope[victim], expected, atol=1e-10, rtol=1e-10)


convolutions = st.fixed_dictionaries(
    {
        "kernel_size": st.sampled_from([1, 2, 3, (3, 1), 5]),
        "stride": st.sampled_from([1, 2, (2, 1)]),
        "padding": st.sampled_from([0, 1, 2, (1, 0)]),
        "dilation": st.sampled_from([1, 2]),
        "groups": st.sampled_from([1, 3]),
        "bias": st.booleans(),
    }
)


@given(convolutions, st.integers(1, 3), st.integers(1, 3), st.sampled_from(sorted(PATHS)), st.integers(0, 99))
@settings(max_examples=60)
def test_convolutions(options, victims, batch, path, seed):
    model = ends(nn.Conv2d(3, 6, **options), nn.GELU())
    agrees_with_autograd(model, "train", path, victims, batch, seed)


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(kernel, dilation, path):
    agrees_with_autograd(ends(nn.Conv2d(3, 5, kernel, padding="same", dilation=dilation), nn.Tanh()), "train", path)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(3),
    "batch without affine": lambda: nn.BatchNorm2d(3, affine=False),
    "batch without statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "group": lambda: nn.GroupNorm(3, 3),
    "instance": lambda: nn.InstanceNorm2d(3, affine=True),
    "layer": lambda: nn.LayerNorm(SHAPE),
    "layer over the last": lambda: nn.LayerNorm(10),
}


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", sorted(NORMS))
def test_normalisations(name, mode, path):
    norm = NORMS[name]()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    agrees_with_autograd(ends(norm, nn.Conv2d(3, 4, 3), nn.GELU()), mode, path, victims=3)


class Tokens(nn.Module):
    """Pixels as a sequence, with learned places, through a layer that works position by position."""

    def __init__(self):
        super().__init__()
        self.place = nn.Embedding(100, 3)
        self.mix = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        tokens = x.flatten(2).mT + self.place(torch.arange(100)).unsqueeze(0)
        return self.head(self.norm(torch.tanh(self.mix(tokens))).mean(1))


class LookUp(nn.Module):
    """An embedding looked up by what the batch itself says."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=2)
        self.head = nn.Linear(304, 4)

    def forward(self, x):
        words = (x[:, 0, 0].detach() * 7).long()
        return self.head(torch.cat([torch.tanh(x.flatten(1)), self.table(words)[:, 0]], 1))


@pytest.mark.parametrize("path", sorted(PATHS))
def test_embeddings_looked_up_by_each_example(path):
    agrees_with_autograd(LookUp().double(), "train", path, victims=3, batch=3)


def test_a_table_that_all_examples_share_goes_the_slow_way():
    chosen = engine(Tokens(), "train", of(SHAPE), 2)
    assert chosen.path == "functional"
    agrees_with_autograd(Tokens().double(), "train", "functional")


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_layer_used_twice_sums_its_gradients(path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(300, 4)

        def forward(self, x):
            return self.head(self.conv(torch.tanh(self.conv(x))).flatten(1))

    agrees_with_autograd(Twice().double(), "train", path)


@pytest.mark.parametrize("path", sorted(PATHS))
def test_in_place_activations_frozen_and_idle_parameters(path):
    model = ends(nn.Conv2d(3, 4, 3), nn.SiLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ELU(inplace=True))
    model[0].weight.requires_grad_(False)
    model.idle = nn.Linear(2, 2).double()
    model.forward = lambda x: nn.Sequential.forward(model[:-1], x)
    agrees_with_autograd(ends(nn.Conv2d(3, 4, 3), nn.SiLU(inplace=True)), "train", path)


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet20"])
def test_named_models_send_what_training_sends(name, mode, path):
    model = models.build(name, SHAPE, 10, (0.5,) * 3, (0.25,) * 3, seed=0).double()
    images, labels = batches(2, 3)
    found = PATHS[path](model, mode, of(images.shape[2:]))(images.requires_grad_(), labels)
    for victim in range(2):
        _, update, _ = gradient(model, images[victim].detach(), labels[victim], mode)
        for key, expected in update.items():
            torch.testing.assert_close(found[key].full()[victim], expected, atol=1e-10, rtol=1e-8)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 3), st.integers(0, 999))
def test_products_without_the_gradient_equal_products_with_it(n, m, positions, victims, seed):
    from gradwire.engine.factored import Factored
    from gradwire.schemes.gradients import Full

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    delta, inputs = normal(victims, n, positions), normal(victims, m, positions)
    exact = Full(delta @ inputs.mT)
    rank, kept = 2, min(n * m, 3)
    indices = torch.randint(n * m, (victims, kept), generator=generator)
    terms = [
        Dense(normal(victims, n, m)),
        RightSketch(normal(victims, n, rank), normal(victims, m, rank)),
        LeftSketch(normal(victims, m, rank), normal(victims, n, rank)),
        Support(normal(victims, kept), indices, torch.ones(victims, kept, dtype=torch.float64)),
    ]
    for term in terms:
        product = Factored(delta, inputs, (n, m))
        for found, expected in zip(term.moments(product), term.moments(exact), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("objective", ["cosine", "distance"])
@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=2", "topk:ratio=0.1", "topk:match_rank=1,per=model"])
def test_objective_and_slope_equal_plain_autograds(scheme, objective):
    model = models.build("convnet", SHAPE, 10, seed=0).double()
    images, labels = batches(3, 2)
    views = [capture(model, images[v], labels[v], scheme) for v in range(3)]
    problems = [pose(view, k) for view in views for k in ("naive", "adaptive")]
    stack = StackedMeasurement.of([p.measurement for p in problems], images)
    rows = torch.stack([p.targets for p in problems])
    candidates = batches(6, 2, seed=1)[0]
    slopes = {}
    for path, build in PATHS.items():
        x = candidates.clone().requires_grad_()
        gradients = build(model, "train", of(SHAPE))(x, rows)
        values = cosine(*stack.moments(gradients), stack.energy) if objective == "cosine" else stack.distance(gradients)
        slopes[path] = (values.detach(), torch.autograd.grad(values.sum(), x)[0])
    for row, problem in enumerate(problems):
        alone = candidates[row].clone().requires_grad_()
        parameters = dict(model.named_parameters())
        value = cross_entropy(model(alone), problem.targets)
        update = dict(zip(parameters, torch.autograd.grad(value, parameters.values(), create_graph=True), strict=True))
        measured, observed = [], []
        for name, terms in problem.measurement.items():
            for term in terms:
                measured.append(_plainly(term, update[name]).reshape(-1))
                observed.append(term.observed.double().reshape(-1))
        a, y = torch.cat(measured), torch.cat(observed)
        expected = 1 - a @ y / (a.norm() * y.norm()) if objective == "cosine" else (a - y).square().sum()
        (slope,) = torch.autograd.grad(expected, alone)
        for values, slope_found in slopes.values():
            torch.testing.assert_close(values[row], expected.detach(), atol=1e-10, rtol=1e-8)
            torch.testing.assert_close(slope_found[row], slope, atol=1e-10, rtol=1e-8)


def _plainly(term, g):
    """A(G) written out again, without the code under test."""
    if isinstance(term, RightSketch):
        return g.flatten(1) @ term.right[0].double()
    if isinstance(term, LeftSketch):
        return g.flatten(1).T @ term.left[0].double()
    if isinstance(term, Support):
        return g.flatten()[term.indices[0]]
    return g


class Mixes(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(300, 4)

    def forward(self, x):
        return self.head(torch.tanh(x - x.mean(0)).flatten(1))


class OutsideItsLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(300, 4)

    def forward(self, x):
        return self.head(x.flatten(1)) + torch.tanh(x.flatten(1)) @ self.head.weight.T


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(300)), nn.Linear(300, 4)

    def forward(self, x):
        return self.head(torch.tanh(x.flatten(1) * self.scale))


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 300), nn.Linear(300, 4))
    model[3].weight = model[1].weight
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Mixes(), "wrong for head.weight"),
        (OutsideItsLayer(), "wrong for head.weight"),
        (Loose(), "Loose has parameters of its own"),
        (ends(nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular")), "pads with 'circular'"),
    ],
)
def test_what_the_fast_path_cannot_take_goes_the_slow_way_and_says_why(model, words):
    chosen = engine(model.double(), "train", of(SHAPE), 2)
    assert chosen.path == "functional"
    assert words in chosen.reasons[0]
    images, labels = batches(2, 2)
    found = chosen.gradients(images.requires_grad_(), labels)
    for victim in range(2):
        _, update, _ = gradient(model, images[victim].detach(), labels[victim])
        for name, expected in update.items():
            torch.testing.assert_close(found[name].full()[victim], expected, atol=1e-10, rtol=1e-8)


def test_tied_weights_go_the_fast_way_and_sum_their_places():
    model = tied().double()
    assert engine(model, "train", of(SHAPE), 2).path == "batched"
    agrees_with_autograd(model, "train", "batched")


class Fused(nn.Module):
    """Calls fused layer norm as a function, where no path can take it apart."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(10)), nn.Linear(300, 4)

    def forward(self, x):
        return self.head(nn.functional.layer_norm(torch.tanh(x), (10,), self.scale).flatten(1))


def test_what_vmap_gets_wrong_goes_the_plain_way():
    chosen = engine(Fused(), "train", of(SHAPE), 2)
    assert chosen.path == "plain"
    assert "functional: it is wrong" in chosen.reasons[1]
    agrees_with_autograd(Fused().double(), "train", "plain")


def test_dropout_is_taken_by_the_fast_path_with_masks_of_its_own():
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(300, 4))
    chosen = engine(model, "train", of(SHAPE), 2)
    assert chosen.path == "batched"
    images, labels = (t.float() if t.is_floating_point() else t for t in batches(1, 2))
    candidates = images.requires_grad_()
    first, second = (chosen.gradients(candidates, labels)["2.weight"].full() for _ in range(2))
    assert not torch.equal(first, second)


def test_known_models_go_the_fast_way():
    for name in ("mlp", "convnet", "resnet20"):
        assert engine(models.build(name, SHAPE, 10, seed=0), "train", of(SHAPE), 1).path == "batched"


def test_thin_convolutions_go_through_vmap_on_a_cpu():
    chosen = engine(models.build("lenet", SHAPE, 10, seed=0), "train", of(SHAPE), 1)
    assert chosen.path == "functional"
    assert chosen.reasons == ()
