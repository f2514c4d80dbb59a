import copy
from dataclasses import replace

import pytest
import torch

import gradwire
from gradwire import metrics
from gradwire.attacks.inversion import Annealed, PublicExamples, Strongest, pose
from gradwire.attacks.inversion.annealed import paths as known
from gradwire.attacks.inversion.annealed.halving import halved
from gradwire.attacks.inversion.annealed.paths import PATHS, SHARES, Likelihood, path_of, suited
from gradwire.attacks.inversion.match import Match, total_variation
from gradwire.attacks.inversion.rehearsal import rehearse
from gradwire.attacks.inversion.statistics import sent
from gradwire.errors import GradwireError
from gradwire.progress import silent
from gradwire.testing import check_attack

OWN = 8


def problems(model, digits, schemes=("topk:ratio=0.1",), knowledge="adaptive", own=True, victims=2):
    held = [digits.batch([victim]) for victim in range(victims)]
    views = [gradwire.capture(model, *batch, scheme, mode="eval") for scheme in schemes for batch in held]
    posed = [pose(view, knowledge, number % victims) for number, view in enumerate(views)]
    examples = PublicExamples(*digits.batch(range(100, 100 + OWN)), "digits 100 to 107") if own else None
    return [replace(problem, public_examples=examples) for problem in posed]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_takes_its_iterations_in_stages_of_its_weights(name):
    stages = path_of(name, 300).stages()
    assert [stage.tv for stage in stages] == list(PATHS[name].weights)
    assert [stage.iterations for stage in stages] == [round(300 * share) for share in SHARES]
    assert sum(stage.iterations for stage in path_of(name, 37).stages()) == 37


def test_a_stage_begins_where_the_last_one_ended(model, digits):
    posed = problems(model, digits, own=False)
    path = path_of("falling", 48)
    _, found = path.descend(posed)
    assert len(found.ends) == len(SHARES)
    for (before,), (after,), stage in zip(found.ends, found.ends[1:], path.stages()[1:], strict=False):
        assert (stage.value(found.match, after) < stage.value(found.match, before)).all()


def test_of_plain_values_the_likelihood_is_the_relative_squared_error(model, digits):
    match = Match.of(problems(model, digits, own=False), "cpu")
    images = torch.rand(2, 1, *digits.shape, generator=torch.Generator().manual_seed(0))
    error = match.distance(images) / match.stack.energy
    found = Likelihood(tv=0.5, sigma=0.2).value(match, images)
    torch.testing.assert_close(found, error + 0.5 * total_variation(images))


def test_only_signs_and_cells_take_paths_that_end_in_their_likelihood(model, digits):
    for scheme, more in (("none", False), ("powersgd:rank=2", False), ("qsgd", True), ("signsgd", True)):
        (problem, *_) = problems(model, digits, (scheme,), own=False)
        assert ({"cells", "signs"} <= {path.called for path in suited(problem, 100)}) == more


def test_the_path_that_recovers_most_of_its_own_images_is_taken(model, digits, monkeypatch):
    ruinous = {name: replace(PATHS[name], weights=(100.0,) * 4) for name in ("falling", "lower")}
    monkeypatch.setattr(known, "PATHS", ruinous | {"adam": PATHS["adam"]})
    posed = problems(model, digits, ("none", "topk:ratio=0.1"))
    cases = halved(posed, lambda problem: suited(problem, 60), list, 0, "cpu", silent)
    assert {key[0]: found.paths[0].called for key, found in cases.items()} == {
        "none": "adam",
        "topk:ratio=0.1": "adam",
    }


def test_it_stops_where_its_own_images_came_out_best(model, digits, monkeypatch):
    monkeypatch.setitem(PATHS, "falling", replace(PATHS["falling"], weights=(0.3, 0.01, 0.01, 100.0)))
    posed = problems(model, digits, ("none",))
    guess = Annealed(iterations=96, path="falling").run(posed)
    assert any("stage 3 of 4, as for 4 of digits 100 to 107" in note for note in guess.notes)
    truth = torch.stack([digits.batch([victim])[0] for victim in range(2)])
    assert (metrics.ssim(guess.inputs, truth) > 0.8).all()
    blind = Annealed(iterations=96, path="falling").run(problems(model, digits, ("none",), own=False))
    assert (metrics.ssim(blind.inputs, truth) < 0.5).all()
    assert any("there were no images of its own" in note for note in blind.notes)


def test_what_it_expects_is_how_its_own_images_came_out(model, digits):
    posed = problems(model, digits, ("none", "signsgd"))
    guess = Annealed(iterations=60).run(posed)
    assert guess.expected[0] == guess.expected[1] > guess.expected[2] == guess.expected[3]
    assert Annealed(iterations=60).run(problems(model, digits, own=False)).expected == (None, None)


@pytest.mark.parametrize(("scheme", "victims"), [("dpsgd", 2), ("precode", 1)])
def test_schemes_whose_rounds_cannot_be_imitated_are_not_rehearsed(model, digits, scheme, victims):
    """Of one image, precode's noise is read out of its message: each victim has a network of its own."""
    guess = Annealed(iterations=24).run(problems(model, digits, (scheme,), victims=victims))
    assert guess.expected == (None,) * victims
    assert any("cannot be rehearsed" in note for note in guess.notes)


def test_the_objective_is_what_was_minimised_at_the_answer(model, digits):
    posed = problems(model, digits, ("none", "qsgd"))
    guess = Annealed(iterations=36).run(posed)
    torch.testing.assert_close(guess.value(guess.inputs), guess.objective)
    assert (guess.value(torch.rand_like(guess.inputs)) > guess.objective).all()


@pytest.mark.parametrize("attack", [Annealed(iterations=24), Strongest(iterations=24)], ids=lambda a: a.name)
def test_poison(model, digits, attack):
    """Guesses are bit-identical when the truth is replaced after capture, rehearsals and all."""
    held = [tuple(part.clone() for part in digits.batch([victim])) for victim in range(2)]
    views = [gradwire.capture(model, *batch, "topk:ratio=0.1", mode="eval") for batch in held]
    examples = PublicExamples(*digits.batch(range(100, 100 + OWN)), "digits")
    posed = [replace(pose(view, "adaptive", number), public_examples=examples) for number, view in enumerate(views)]
    first = attack.run(posed)
    for images, labels in held:
        images.fill_(0.5)
        labels.zero_()
    posed = [replace(pose(view, "adaptive", number), public_examples=examples) for number, view in enumerate(views)]
    again = attack.run(posed)
    assert torch.equal(first.inputs, again.inputs)
    assert first.expected == again.expected
    assert first.notes == again.notes


@pytest.mark.parametrize("name", ["annealed", "strongest"])
def test_they_pass_the_checks_of_attacks(name, model, digits):
    check_attack(f"{name}:iterations=24", problems(model, digits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 23}, "annealed: iterations is 23; it must be at least 24"),
        ({"path": "up"}, "unknown path 'up'; known: falling, lower, low, adam, signed, cells, signs"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(GradwireError, match=message):
        Annealed(**options)


def test_too_few_images_of_its_own_are_refused(model, digits):
    few = PublicExamples(*digits.batch(range(3)), "three digits")
    posed = [replace(problem, public_examples=few) for problem in problems(model, digits, own=False)]
    with pytest.raises(GradwireError, match="three digits has 3 images; 4 rehearsals take 4"):
        Annealed().run(posed)


def test_the_last_rung_is_between_the_better_paths_of_each_optimiser(model, digits, monkeypatch):
    tried, descend = [], known.Path.descend

    def recorded(self, *given):
        tried.append((self.called, self.optimizer, self.iterations))
        return descend(self, *given)

    monkeypatch.setattr(known.Path, "descend", recorded)
    halved(problems(model, digits, ("none",)), lambda problem: suited(problem, 60), list, 0, "cpu", silent)
    assert {name for name, _, iterations in tried if iterations == 10} == {"falling", "lower", "low", "adam", "signed"}
    assert sorted(optimizer for _, optimizer, iterations in tried if iterations == 30) == ["adam", "lbfgs", "lbfgs"]


def test_a_rehearsal_sends_the_statistics_of_its_own_batch(digits):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
    view = gradwire.capture(network, *digits.batch(range(4)), "topk:ratio=0.5", mode="train")
    own = PublicExamples(*digits.batch(range(100, 108)), "digits")
    posed, truth = rehearse(pose(view, "adaptive"), own, 2)
    for problem, images in zip(posed, truth, strict=True):
        trained = copy.deepcopy(network).train()
        trained(images)
        for name, buffer in problem.view.buffers.items():
            torch.testing.assert_close(buffer, trained.get_buffer(name).to(buffer))
    assert sent([view, posed[0].view]) is not None
    assert not torch.equal(posed[0].view.buffers["1.running_mean"], view.buffers["1.running_mean"])
    still = gradwire.capture(network, *digits.batch(range(4)), "none", mode="eval")
    assert rehearse(pose(still, "adaptive"), own, 1)[0][0].view.buffers is None
