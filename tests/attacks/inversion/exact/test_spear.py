"""Batches behind a linear layer and a ReLU."""

import pytest
import torch

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import Exact, pose
from gradwire.attacks.inversion.exact.directions import deflated, learned, sampled
from gradwire.attacks.inversion.exact.replay import Replay
from gradwire.attacks.inversion.exact.spear import AGREE, Factors, Spear, agreement, swapped
from gradwire.attacks.inversion.row_choice import EXPLAINED
from gradwire.errors import GradwireError


@pytest.fixture(scope="module")
def mlp(digits):
    return models.build("mlp:hidden=120", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def posed(model, digits, scheme="none", batch=5, start=0, **options):
    images, labels = digits.batch(range(start, start + batch))
    return pose(gradwire.capture(model, images, labels, scheme, mode="eval", **options), "adaptive"), images


def found(problem, seed=0):
    """What SPEAR gives, as it is checked."""
    spear = Spear.of(problem.view)
    solution = spear.solution(problem, torch.Generator().manual_seed(seed))
    return Replay([problem], spear.layer).answer(0, solution.inputs)


def planted(examples, units=150, seed=0):
    """Slopes (n, k) of which half are zero, mixed up: L, and the directions that undo the mixture, (k, k)."""
    random = torch.Generator().manual_seed(seed)
    slopes = torch.randn(units, examples, generator=random, dtype=torch.float64)
    slopes *= torch.rand(units, examples, generator=random) < 0.5
    left, rest = torch.linalg.qr(slopes)
    return left, rest.mT / rest.mT.norm(dim=1, keepdim=True)


def reached(directions, true):
    """For each true direction, whether it is among others."""
    return (directions @ true.mT).abs().amax(0) > 1 - 1e-6


@pytest.mark.parametrize(("way", "examples"), [(sampled, 5), (learned, 5), (learned, 10)])
def test_planted_directions_are_found(way, examples):
    left, true = planted(examples, units=250)
    directions = way(left, torch.Generator().manual_seed(0))
    assert bool(reached(directions, true).all())


def test_a_direction_that_another_hides_is_found_where_that_one_vanishes():
    left, true = planted(6)
    directions = deflated(left, true[2], torch.Generator().manual_seed(0))
    assert reached(directions, true).tolist() == [True, True, False, True, True, True]


def test_dense_slopes_have_no_directions():
    left = torch.linalg.qr(torch.randn(100, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    for way in (sampled, learned):
        assert len(way(left, torch.Generator().manual_seed(0))) == 0


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=5", "powersgd:rank=8", "randomk:ratio=1"])
def test_batches_are_exact(mlp, digits, scheme):
    for start in (0, 40):
        problem, images = posed(mlp, digits, scheme, start=start)
        answer = found(problem)
        assert answer.off < EXPLAINED
        score = gradwire.score(answer.inputs[None], images[None])
        assert float((score.inputs[0] - images).abs().max()) < 2e-3


def test_twelve_images_are_exact(mlp, digits):
    problem, images = posed(mlp, digits, batch=12)
    answer = found(problem)
    assert answer.off < EXPLAINED
    assert float(gradwire.score(answer.inputs[None], images[None]).ssim) > 0.999


def test_all_images_of_a_secure_sum_are_exact(mlp, digits):
    problem, images = posed(mlp, digits, "sga", batch=3, fellows=[digits.batch(range(100, 103))])
    answer = found(problem)
    everybody = torch.cat([images, digits.batch(range(100, 103))[0]])
    assert answer.off < EXPLAINED
    assert float(gradwire.score(answer.inputs[None], everybody[None]).ssim) > 0.999


def test_targets_stand_beside_their_images_and_follow_where_nobody_knows_them(mlp, digits):
    problem, images = posed(mlp, digits)
    labels = digits.batch(range(5))[1]
    assert_beside(found(problem), images, labels)
    answer = found(posed(mlp, digits, targets_known=False)[0])
    assert torch.equal(answer.targets, labels.sort().values)
    assert_beside(answer, images, labels)


def assert_beside(answer, images, labels):
    for image, label in zip(answer.inputs, answer.targets, strict=True):
        assert float((images[labels == label] - image).abs().flatten(1).amax(1).min()) < 1e-3


@pytest.mark.parametrize("scheme", ["powersgd:rank=3", "topk:ratio=0.5", "signsgd", "qsgd:bits=8"])
def test_less_than_the_whole_gradient_is_refused(mlp, digits, scheme):
    problem, _ = posed(mlp, digits, scheme)
    with pytest.raises(GradwireError, match=r"spear needs all of the gradient of 'hidden1.weight'"):
        found(problem)


def test_noise_is_said_not_to_be_explained(mlp, digits):
    problem, _ = posed(mlp, digits, "noise:std=0.0005", batch=4)
    assert found(problem).off > 1e-2


@pytest.mark.parametrize("change", [lambda x: -x, lambda x: 1.05 * x, lambda x: x.flip(-1)])
def test_an_answer_that_is_another_batch_does_not_explain_what_was_sent(mlp, digits, change, monkeypatch):
    problem, _ = posed(mlp, digits)
    rows = Factors.rows
    monkeypatch.setattr(Factors, "rows", lambda self, q: (rows(self, q)[0], change(rows(self, q)[1])))
    assert found(problem).off > 1e-4


def test_one_wrong_image_of_a_batch_is_seen(mlp, digits):
    problem, images = posed(mlp, digits)
    replay = Replay([problem], Spear.of(problem.view).layer)
    assert replay.answer(0, images).off < 1e-10
    assert replay.answer(0, torch.cat([images[1:], digits.batch([200])[0]])).off > 1e-3
    assert replay.answer(0, images.flip(0)).off < 1e-10


def test_networks_without_relu_have_no_such_directions(digits):
    torch.manual_seed(0)
    smooth = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 90), torch.nn.Sigmoid(), torch.nn.Linear(90, 10)
    )
    problem, _ = posed(smooth, digits)
    with pytest.raises(GradwireError, match="spear finds 0 of 5 directions"):
        found(problem)
    with pytest.raises(GradwireError, match="this is one input"):
        found(posed(smooth, digits, batch=1)[0])


def test_examples_without_a_slope_are_left_open(digits):
    torch.manual_seed(0)
    layer, head = torch.nn.Linear(64, 90), torch.nn.Linear(90, 10)
    model = torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.ReLU(), head)
    images, labels = digits.batch(range(4))
    with torch.no_grad():  # the first image activates nothing
        layer.weight[:, 0] = -1e3
    images[0, 0, 0, 0], images[1:, 0, 0, 0] = 1, 0
    problem = pose(gradwire.capture(model, images, labels, mode="eval"), "adaptive")
    answer = found(problem)
    assert answer.off < EXPLAINED  # mid-grey leaves no trace either
    assert not Spear.of(problem.view).solution(problem, torch.Generator()).determined
    guess = Exact().run([problem])
    assert guess.solved == (False,)
    assert any("explains what was sent, as others would" in note for note in guess.notes)
    near = (answer.inputs.flatten(1)[None] - images.flatten(1)[:, None]).abs().amax(2).amin(1)
    assert near[0] > 0.1
    assert bool((near[1:] < 1e-3).all())


def test_directions_are_swapped_for_those_that_agree():
    true = torch.eye(3, dtype=torch.float64)
    pool = torch.cat([true, torch.tensor([[0.8, 0.6, 0.0]], dtype=torch.float64)])

    def agree(directions):
        return (directions.abs().amax(-1) > 0.999).double()

    chosen = swapped(pool[[3, 1, 2]], pool, agree)
    assert torch.equal(chosen, true)


def test_slopes_agree_with_a_relu_where_they_vanish_with_it():
    outputs = torch.tensor([[1.0, -1.0, 2.0, -3.0], [1.0, 1.0, -1.0, -2.0]])
    slopes = torch.tensor([[0.5, 0.2], [0.0, 0.1], [1.0, 0.0], [0.0, 0.0]])
    assert agreement(slopes, outputs).tolist() == [1.0, 1.0]
    slopes[2, 1] = 0.3
    assert agreement(slopes, outputs).tolist() == [1.0, pytest.approx(2 / 3)]
    assert AGREE < 1


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("batch", "scheme"), [(8, "none"), (8, "powersgd:rank=8"), (24, "none")])
def test_the_mlp_gives_batches_of_fashion_mnist_away(batch, scheme):
    pictures = data.load("fashion_mnist", "test", limit=batch)
    model = models.build("mlp", pictures.shape, pictures.outputs, pictures.mean, pictures.std, seed=0)
    guess = gradwire.invert(gradwire.capture(model, *pictures.batch(range(batch)), scheme, mode="eval"), "exact")
    assert guess.solved == (True,)
    assert float(gradwire.score(guess.inputs, pictures.batch(range(batch))[0][None]).ssim) > 0.99
