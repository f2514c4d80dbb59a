import dataclasses

import pytest
import torch

import gradwire
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.rounds import Rounds, joint
from gradwire.errors import GradwireError
from gradwire.schemes.gradients import Full
from gradwire.training import gradient
from gradwire.training.capture import capture_rounds


@pytest.mark.parametrize("lr", [0.0, 0.5])
@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.01", "topk:ratio=0.01,per=model", "powersgd:rank=1"])
def test_the_true_batch_meets_every_rounds_equations(model, digits, scheme, lr):
    images, labels = digits.batch([0, 1])
    views = capture_rounds(model, images, labels, scheme, 4, lr=lr)
    total = {}
    first = joint(views)
    for view, problem in zip(views, (first, *first.later), strict=True):
        fresh = gradient(view.model, images, labels)[1]
        total = {name: g + problem.carried * total.get(name, 0) for name, g in fresh.items()}
        for name, terms in problem.measurement.items():
            for term in terms:
                torch.testing.assert_close(term.apply(Full(total[name][None])), term.observed, atol=1e-5, rtol=1e-3)


def invert_rounds(views, **options):
    return Rounds(**options).run([joint(each, "adaptive", salt) for salt, each in enumerate(views)])


def test_without_error_feedback_each_rounds_equations_are_of_that_round(model, digits):
    images, labels = digits.batch([0])
    views = capture_rounds(model, images, labels, "topk:ratio=0.01,error_feedback=false", 3, lr=0.5)
    first = joint(views)
    for view, problem in zip(views, (first, *first.later), strict=True):
        fresh = gradient(view.model, images, labels)[1]
        assert problem.carried == 0
        for name, terms in problem.measurement.items():
            torch.testing.assert_close(terms[0].apply(Full(fresh[name][None])), terms[0].observed)


@pytest.mark.parametrize("scheme", ["topk:ratio=0.1", "topk:ratio=0.1,error_feedback=false"])
def test_the_objective_is_the_mean_of_the_rounds_distances(model, digits, scheme):
    views = capture_rounds(model, *digits.batch([0]), scheme, 2, lr=0.5)
    candidates = torch.rand(1, 1, *digits.shape)
    problem = joint(views)
    found = Rounds(tv=0.0).value(Match.of([problem], "cpu"), candidates)
    distances, total = [], {}
    for view, each in zip(views, (problem, *problem.later), strict=True):
        fresh = gradient(view.model, candidates[0], view.targets)[1]
        total = {name: g + each.carried * total.get(name, 0) for name, g in fresh.items()}
        pairs = [(t.apply(Full(total[n][None])), t.observed) for n, ts in each.measurement.items() for t in ts]
        ours, sent = (torch.cat([side.flatten() for side in sides]) for sides in zip(*pairs, strict=True))
        distances.append(1 - torch.cosine_similarity(ours, sent, 0))
    torch.testing.assert_close(found[0], torch.stack(distances).mean(), atol=1e-5, rtol=1e-4)


def test_victims_whose_models_have_moved_apart_are_no_batch(model, digits):
    def problems(lr, rounds):
        return [joint(capture_rounds(model, *digits.batch([i]), "topk:ratio=0.1", rounds, lr=lr)) for i in range(2)]

    for lr, rounds, share in ((0.0, 2, True), (0.5, 2, False), (0.5, 1, True)):
        first, second = problems(lr, rounds)
        assert first.shares_model(second) == share
    assert not problems(0.0, 2)[0].shares_model(problems(0.0, 1)[0])


def test_signs_of_a_sum_are_refused(model, digits):
    views = capture_rounds(model, *digits.batch([0]), "signsgd:error_feedback=true", 2)
    with pytest.raises(GradwireError, match="signs of a sum"):
        invert_rounds([views], iterations=1)


def test_the_model_moves_between_rounds_only_where_training_moves_it(model, digits):
    still = capture_rounds(model, *digits.batch([0]), "topk:ratio=0.1", 3)
    moving = capture_rounds(model, *digits.batch([0]), "topk:ratio=0.1", 3, lr=0.1)
    assert still[0].shares_model(still[2])
    assert not moving[0].shares_model(moving[2])
    assert [view.round for view in moving] == [0, 1, 2]


def test_one_round_is_iga(model, digits):
    views = capture_rounds(model, *digits.batch([0]), "topk:ratio=0.1", 1)
    together, alone = invert_rounds([views], iterations=10), gradwire.invert(views, iterations=10)
    torch.testing.assert_close(together.inputs, alone.inputs, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_four_rounds_see_more_than_one(model, digits, batch):
    chosen = [range(i * batch, (i + 1) * batch) for i in range(4)]
    truth = torch.stack([digits.batch(each)[0] for each in chosen])
    views = [capture_rounds(model, *digits.batch(each), "topk:ratio=0.001", 4) for each in chosen]
    one, four = (
        gradwire.score(invert_rounds([v[:count] for v in views], iterations=150).inputs, truth).ssim for count in (1, 4)
    )
    assert float(four.mean()) > float(one.mean()) + 0.15


def test_the_truth_does_not_reach_the_attack(model, digits):
    images, labels = (tensor.clone() for tensor in digits.batch([0, 1]))
    views = capture_rounds(model, images, labels, "topk:ratio=0.01", 2)
    before = invert_rounds([views], iterations=3)
    images.zero_()
    labels.zero_()
    assert torch.equal(before.inputs, invert_rounds([views], iterations=3).inputs)


def test_bad_input(model, digits):
    with pytest.raises(GradwireError, match="rounds is 0; it must be at least 1"):
        capture_rounds(model, *digits.batch([0]), "none", 0)
    views = capture_rounds(model, *digits.batch([0]), "topk:ratio=0.1", 3)
    with pytest.raises(GradwireError, match="must share a model, a mode and a shape, in every round"):
        invert_rounds([views, views[:2]])
    with pytest.raises(GradwireError, match=r"rounds are \[0, 2\]; with error feedback they must be 0, 1"):
        invert_rounds([[views[0], views[2]]])
    other = dataclasses.replace(views[0], mode="eval")
    with pytest.raises(GradwireError, match="must share a model"):
        invert_rounds([views[:1], [other]])
