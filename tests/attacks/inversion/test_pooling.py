"""Sums over clients: what each adversary observes is the mean of just those clients that it looks for."""

import pytest
import torch

import gradwire
from gradwire import models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.match import Match
from gradwire.schemes.gradients import Full, Mean


def batches(count, size=1):
    random = torch.Generator().manual_seed(0)
    labels = [[(3 * i + j) % 10 for j in range(size)] for i in range(count)]
    return [(torch.rand(size, 1, 8, 8, generator=random), torch.tensor(each)) for each in labels]


def view_of(scheme, clients, adversary="server", size=1, model="lenet", **options):
    network = models.build(model, (1, 8, 8), 10, seed=0)
    first, *rest = batches(clients, size)
    return gradwire.capture(network, *first, scheme=scheme, fellows=rest, adversary=adversary, **options)


@pytest.mark.parametrize(
    ("scheme", "adversary", "sought"),
    [
        ("none", "server", (0,)),
        ("none", "client", (0, 2)),
        ("sga", "server", (0, 1, 2)),
        ("sga", "client", (0, 2)),
        ("sga:threshold=2,colluders=0,bits=16", "client", (0, 2)),
        ("sga:rounding=stochastic", "client", (0, 2)),
        ("ssga:compression=5", "server", (0, 1, 2)),
        ("ssga:compression=5", "client", (0, 2)),
        ("ssga-dgc:compression=5,union=anonymous", "client", (0, 2)),
        ("powersgd:rank=2+sga", "server", (0, 1, 2)),
        ("powersgd:rank=2+sga", "client", (0, 2)),
        ("powersgd:rank=2", "client", (0, 2)),
    ],
)
@pytest.mark.parametrize("size", [1, 2])
def test_the_true_images_of_those_sought_fit_what_the_adversary_observes(scheme, adversary, sought, size):
    problem = pose(view_of(scheme, 3, adversary, size), "adaptive")
    assert problem.clients == tuple(f"client:{i}" for i in sought)
    held = batches(3, size)
    truth = torch.cat([held[i][0] for i in sought])[None]
    assert torch.equal(problem.targets, torch.cat([held[i][1] for i in sought]))
    match = Match.of([problem], "cpu")
    scale = match.stack.energy
    assert match.distance(truth) <= 1e-5 * scale
    if len(sought) > 1:
        assert match.distance(truth.roll(1, 0).flip(4)) > 1e-3 * scale


def test_the_naive_adversary_takes_the_mean_for_the_victims_update():
    problem = pose(view_of("sga", 3), "naive")
    assert problem.clients == ("client:0",)
    assert problem.view.shape == (1, 1, 8, 8)


def test_with_batch_norm_each_clients_statistics_are_its_own():
    problem = pose(view_of("sga", 2, size=3, model="resnet20"), "adaptive")
    truth = torch.cat([images for images, _ in batches(2, 3)])[None]
    match = Match.of([problem], "cpu")
    assert match.distance(truth) <= 1e-5 * match.stack.energy
    assert match.distance(truth[:, [3, 1, 2, 0, 4, 5]]) > 1e-3 * match.stack.energy


def test_labels_of_all_are_inferred_where_they_are_not_known():
    problem = pose(view_of("sga", 3, targets_known=False), "adaptive")
    assert problem.targets.tolist() == [0, 3, 6]


def test_an_attack_on_a_sum_finds_the_images_of_all():
    views = view_of("sga", 2, model="mlp")
    guess = gradwire.invert(views, attack="dlg", iterations=400)
    assert guess.inputs.shape == (1, 2, 1, 8, 8)
    truth = torch.cat([images for images, _ in batches(2)])[None]
    found = gradwire.metrics.match(guess.inputs, truth)
    alone = gradwire.invert(views, attack="dlg", knowledge="naive", iterations=400)
    assert float((found - truth).square().mean()) < 0.3 * float((alone.inputs - truth[:, :1]).square().mean())


def test_a_mean_answers_as_the_mean_itself():
    random = torch.Generator().manual_seed(0)
    each = torch.randn(6, 4, 3, generator=random)
    mean, plain = Mean(Full(each), 2), Full(each.view(3, 2, 4, 3).mean(1))
    q, p = torch.randn(3, 3, 2, generator=random), torch.randn(3, 4, 2, generator=random)
    places = torch.tensor([[0, 5], [1, 2], [11, 3]])
    assert len(mean) == 3
    for mine, right in (
        (mean.full(), plain.full()),
        (mean.square(), plain.square()),
        (mean.inner(plain.full()), plain.inner(plain.full())),
        (mean.right(q), plain.right(q)),
        (mean.left(p), plain.left(p)),
        (mean.entries(places), plain.entries(places)),
        (mean.rows(slice(1, 3)).full(), plain.full()[1:]),
        (mean.rows(torch.tensor([2, 0])).full(), plain.full()[[2, 0]]),
    ):
        torch.testing.assert_close(mine, right)


def test_labels_that_batches_of_other_sizes_have_are_not_told():
    network = models.build("lenet", (1, 8, 8), 10, seed=0)
    (first,), (second,) = batches(1, 1), batches(1, 2)
    view = gradwire.capture(network, *first, scheme="sga", fellows=[second])
    assert view.fellow_targets is None
