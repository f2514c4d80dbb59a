import dataclasses

import pytest
import torch
from torch import nn

import gradwire
from gradwire import models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.fedavg import FedAvg, epochs
from gradwire.attacks.inversion.match import Match
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, parse
from gradwire.training.client import Computation, Descent, contribution
from gradwire.wire.view import LocalWork


def attacked(model, digits, attack, victims=2, iterations=100, batch=4, options=None, **work):
    images = digits.batch(range(victims * batch))[0].view(victims, batch, *digits.shape)
    labels = digits.targets[: victims * batch].view(victims, batch)
    views = [gradwire.capture(model, x, y, freeze=False, **work) for x, y in zip(images, labels, strict=True)]
    guess = gradwire.invert(views, attack, iterations=iterations, **(options or {}))
    return guess, gradwire.score(guess.inputs, images)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("work", [LocalWork(1, 4, 0.1), LocalWork(5, 2, 0.5, 0.1)])
def test_the_simulation_is_the_clients_training(digits, work, mode):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 10)
    model = nn.Sequential(*layers).double()
    images, labels = digits.batch(range(8))
    images, labels = images.double().view(2, 4, *digits.shape), labels.view(2, 4)
    view = gradwire.capture(model, images[0], labels[0], mode=mode)
    view = dataclasses.replace(view, work=work)
    held = images[:, None].expand(-1, epochs(view), *images.shape[1:])
    found = engine(model, mode, view.task, view.shape[0], work=work).gradients(held, labels)
    around = Round(0, ("client:0",), 0, Layout.of_model(model))
    for victim in range(2):
        plan = [torch.arange(4)] if work.batch == 4 else [torch.arange(2), torch.arange(2, 4)]
        steps = Descent((plan * work.steps)[: work.steps], [0] * work.steps, work.lr, 0.0, work.weight_decay)
        held, how = (images[victim], labels[victim]), Computation(mode)
        exact = contribution(model, *held, parse("none"), "client:0", {}, around, steps, how)
        for name, update in exact.update.items():
            torch.testing.assert_close(found[name].full()[victim], update, atol=1e-10, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("free", [False, True])
def test_simulating_the_steps_beats_taking_the_update_for_a_gradient(model, digits, free):
    work = {"local_steps": 5, "local_batch": 1, "lr": 0.5, "batch": 1}
    taken, plain = attacked(model, digits, "iga", **work)
    simulated, score = attacked(model, digits, "fedavg", options={"free": free}, **work)
    assert (simulated.objective < 0.1 * taken.objective).all()
    assert (score.ssim > plain.ssim).all()
    assert float(score.ssim.mean()) > 0.99


@pytest.mark.slow
def test_batches_of_several_images(model, digits):
    work = {"local_steps": 4, "local_batch": 4, "lr": 1.0}
    plain, score = (attacked(model, digits, attack, **work)[1] for attack in ("iga", "fedavg"))
    assert float(score.ssim.mean()) > float(plain.ssim.mean()) + 0.1


def test_epochs_are_counted_from_their_beginning(model, digits):
    for steps, expected in ((1, 1), (2, 1), (3, 2), (4, 2), (5, 3)):
        view = gradwire.capture(model, *digits.batch(range(4)), local_steps=steps, local_batch=2)
        assert epochs(view) == expected


def test_epochs_whose_means_lie_apart_cost_the_tie_and_all_images_variation(digits):
    network = models.build("mlp", digits.shape, digits.outputs, seed=0)
    images, labels = digits.batch(range(4))
    views = [gradwire.capture(network, images, labels, local_steps=4, local_batch=2, freeze=False) for _ in range(2)]
    match = Match.of([pose(view, "adaptive") for view in views], "cpu")
    held = torch.rand(2, 2, 4, *digits.shape)  # victims, epochs, images
    first, later = held[:, 0], held[:, 1:]
    free = FedAvg(tv=0.0, tie=0.0, free=True).value(match, first, later)
    apart = ((held[:, 0].mean(1) - held[:, 1].mean(1)) / 2).square().flatten(1).mean(1)
    torch.testing.assert_close(FedAvg(tv=0.0, tie=3.0, free=True).value(match, first, later) - free, 3 * apart)
    varies = sum(held.diff(dim=axis).abs().flatten(1).mean(1) for axis in (-2, -1))
    torch.testing.assert_close(FedAvg(tv=0.5, tie=0.0, free=True).value(match, first, later) - free, 0.5 * varies)
    # Of one set of images, no two epochs' means are apart.
    shared = FedAvg(tv=0.0, tie=0.0).value(match, first)
    torch.testing.assert_close(FedAvg(tv=0.0, tie=3.0).value(match, first), shared)
    varies = sum(first.diff(dim=axis).abs().flatten(1).mean(1) for axis in (-2, -1))
    torch.testing.assert_close(FedAvg(tv=0.5, tie=0.0).value(match, first) - shared, 0.5 * varies)


def test_bad_input(model, digits):
    view = gradwire.capture(model, *digits.batch([0]))
    with pytest.raises(GradwireError, match="fedavg needs a view of local steps"):
        gradwire.invert(view, "fedavg", iterations=1)
    with pytest.raises(GradwireError, match="tie is -1"):
        gradwire.invert(view, "fedavg", tie=-1)
