from dataclasses import replace

import pytest
import torch
from sklearn.mixture import GaussianMixture

import gradwire
from gradwire import data
from gradwire.attacks.inversion import Bayes, PublicExamples, pose
from gradwire.attacks.inversion.bayes import REHEARSALS, TRIED
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.patches import PatchPrior
from gradwire.attacks.inversion.rehearsal import rehearse
from gradwire.errors import GradwireError
from gradwire.progress import silent


@pytest.fixture(scope="module")
def own():
    return PublicExamples(*data.load("digits", "train").batch(range(60)), "digits")


@pytest.fixture(scope="module")
def prior(own):
    return PatchPrior.fit(own.inputs, "digits", components=5)


def test_the_energy_is_the_mixtures_likelihood_of_every_patch(prior):
    mixture = GaussianMixture(5)
    mixture.weights_, mixture.means_ = prior.weights.double().numpy(), prior.means.double().numpy()
    mixture.precisions_cholesky_ = prior.whitening.double().mT.numpy()
    images = torch.rand(3, 2, 1, 8, 8)
    patches = torch.stack([images[..., i : i + 4, j : j + 4] for i in range(5) for j in range(5)], 2)
    for victim in range(3):
        expected = -mixture.score_samples(patches[victim].reshape(-1, 16).double().numpy()).sum() / 16
        assert float(prior.energy(images)[victim]) == pytest.approx(expected, rel=1e-4)


def test_images_of_the_kind_are_likelier_than_the_same_pixels_in_disorder(prior, digits):
    images = digits.batch(range(20))[0][:, None]
    mixed = images.flatten(2)[..., torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(images)
    assert (prior.energy(images) < prior.energy(mixed)).all()
    assert (prior.energy(images) < prior.energy(torch.rand(images.shape))).all()


@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.1", "powersgd:rank=2", "noise:std=0.01", "signsgd"])
@pytest.mark.parametrize("adversary", ["server", "client"])
def test_a_rehearsal_poses_the_problem_that_its_images_would_have_posed(model, digits, own, scheme, adversary):
    fellows = [digits.batch([5, 6])]
    view = gradwire.capture(model, *digits.batch([0, 1]), scheme, adversary=adversary, fellows=fellows)
    (posed,), images = rehearse(pose(view, "adaptive"), own, 1)
    assert torch.equal(images[0], own.inputs[:2])
    again = [(own.inputs[i : i + 2], own.targets[i : i + 2]) for i in (0, 2)]
    expected = pose(gradwire.capture(model, *again[0], scheme, adversary=adversary, fellows=again[1:]), "adaptive")
    assert posed.measurement.keys() == expected.measurement.keys()
    if scheme != "noise:std=0.01":
        for name, terms in posed.measurement.items():
            for ours, theirs in zip(terms, expected.measurement[name], strict=True):
                torch.testing.assert_close(ours.observed, theirs.observed, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("scheme", ["sga", "ssga:compression=20"])
@pytest.mark.parametrize("adversary", ["server", "client"])
def test_of_sums_the_images_of_all_clients_are_rehearsed(model, digits, own, scheme, adversary):
    fellows = [digits.batch([5, 6]), digits.batch([7, 8])]
    problem = pose(
        gradwire.capture(model, *digits.batch([0, 1]), scheme, adversary=adversary, fellows=fellows), "adaptive"
    )
    (posed, _), images = rehearse(problem, own, 2)
    assert posed.clients == problem.clients
    assert posed.view.shape == problem.view.shape
    sought = [0, 1, 2, 3, 4, 5] if adversary == "server" else [0, 1, 4, 5]
    assert torch.equal(images, torch.stack([own.inputs[sought], own.inputs[[6 + i for i in sought]]]))
    assert torch.equal(posed.targets, own.targets[sought])
    # What was measured is what the public images give, and no others.
    match = Match.of([posed], "cpu")
    assert match.distance(images[:1]) < 1e-4 * match.stack.energy


def test_a_scheme_with_a_say_in_training_is_not_imitated(model, digits, own):
    view = gradwire.capture(model, *digits.batch([0, 1]), "dpsgd:clip=1,noise=0.1")
    guess = gradwire.invert(view, "bayes", public_examples=own, iterations=2)
    assert "bayes has a prior of total variation" in guess.notes


def test_the_scale_is_chosen_without_the_victims(model, digits, own):
    images, labels = (tensor.clone() for tensor in digits.batch([0]))
    view = gradwire.capture(model, images, labels, "noise:std=0.05")

    def scales():
        return (
            Bayes(iterations=20)
            .prepared([replace(pose(view, "adaptive"), public_examples=own)], 0, "cpu", silent)
            .scales
        )

    first = scales()
    assert len(first) == 1
    images.zero_()
    assert scales() == first


def test_a_rehearsal_tells_how_far_it_is_and_does_not_count_as_the_attack(model, digits, own):
    specs = ("noise:std=0.05", "topk:ratio=0.1")
    views = [gradwire.capture(model, *digits.batch([0]), spec) for spec in specs]
    problems = [replace(pose(view, "adaptive"), public_examples=own) for view in views]
    told = []
    Bayes(iterations=2).run(problems, progress=lambda *step: told.append(step))
    rows = REHEARSALS * len(TRIED)
    assert told == [
        *(("rehearsing", done * rows, 4 * rows) for done in (1, 2, 3, 4)),
        *(("attacking", done * len(problems), 2 * len(problems)) for done in (1, 2)),
    ]


@pytest.mark.parametrize("prior", ["tv", "patch"])
def test_notes_say_what_prior_and_scale_there_were(model, digits, own, prior):
    view = gradwire.capture(model, *digits.batch([0]), "noise:std=0.05")
    guess = gradwire.invert(view, "bayes", prior=prior, public_examples=own, iterations=5)
    (note,) = (each for each in guess.notes if each.startswith("bayes has a prior"))
    assert ("patches of digits" in note) == (prior == "patch")
    assert "its scale rehearsed on images of digits" in note
    assert "under noise:std=0.05" in note


@pytest.mark.slow
def test_a_rehearsed_scale_sees_through_noise_in_which_a_fixed_one_sees_nothing(model, digits, own):
    views = [gradwire.capture(model, *digits.batch([i]), "noise:std=0.05") for i in range(4)]
    truth = digits.batch(range(4))[0][:, None]
    patch, tv, fixed = (
        gradwire.score(gradwire.invert(views, "bayes", iterations=150, **options).inputs, truth).ssim.mean()
        for options in ({"prior": "patch", "public_examples": own}, {"public_examples": own}, {})
    )
    assert min(patch, tv) > fixed + 0.5


def test_bad_input(model, digits, own):
    view = gradwire.capture(model, *digits.batch([0]))
    with pytest.raises(GradwireError, match="a patch prior is fitted to images of the adversary's own; there are none"):
        gradwire.invert(view, "bayes", prior="patch", iterations=1)
    with pytest.raises(GradwireError, match="digits has 60 images; 100 rehearsals take 100"):
        rehearse(pose(view, "adaptive"), own, 100)
    with pytest.raises(GradwireError, match="hold no patch of 9×9"):
        PatchPrior.fit(own.inputs, "digits", size=9)
    with pytest.raises(GradwireError, match="25 patches are too few for 10 components"):
        PatchPrior.fit(own.inputs[:1], "digits")
    with pytest.raises(GradwireError, match="unknown prior 'flat'; known: tv, patch"):
        Bayes(prior="flat")
    variants = Match.of([pose(view, "adaptive")], "cpu")
    assert Bayes().value(variants, torch.rand(1, 1, 1, 8, 8)).shape == (1,)
