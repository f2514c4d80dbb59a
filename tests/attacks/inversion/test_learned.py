"""The learned inverter: trained once for an occasion, refused for another, better than what the label alone tells."""

from dataclasses import replace

import pytest
import torch

import gradwire
from gradwire import models
from gradwire.attacks.inversion import IGA, ClassMean, Learned
from gradwire.attacks.inversion.learned.inverter import Inverter
from gradwire.attacks.inversion.learned.sketch import Block, Sketch, blocks, numbers
from gradwire.attacks.inversion.match import Match
from gradwire.errors import GradwireError
from gradwire.schemes import Layout
from gradwire.schemes.measurement import Dense, Support
from gradwire.testing import check_attack
from tests.attacks.inversion.own_images import owned, problems, truth

SMALL = Learned(hidden=16, epochs=1, size=8, components=8, features=64)


@pytest.fixture(scope="module")
def model(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


@pytest.fixture(scope="module")
def own():
    return owned()


@pytest.mark.parametrize("scheme", ["none", "powersgd", "topk:ratio=0.05"])
def test_it_finds_more_than_the_label_tells(model, digits, own, scheme):
    attacked = problems(model, digits, scheme, own, range(16))
    held = truth(digits, range(16))
    learned, label = (attack.run(attacked).inputs for attack in (Learned(epochs=15, size=64), ClassMean()))
    found, control = (float((inputs - held).square().mean()) for inputs in (learned, label))
    assert found < 0.6 * control


def test_what_was_sent_decides_not_its_order_in_the_batch(model, digits, own):
    attacked = problems(model, digits, "none", own)
    trained = SMALL.trained(attacked)
    forth, back = trained.run(attacked).inputs, trained.run(attacked[::-1]).inputs
    torch.testing.assert_close(forth, back.flip(0))
    assert (forth[0] - forth[1]).abs().max() > 0.01


def test_the_objective_is_that_of_iga_without_a_prior(model, digits, own):
    attacked = problems(model, digits, "signsgd", own)
    guess = SMALL.run(attacked)
    due = IGA(tv=0).value(Match.of(attacked, "cpu"), guess.inputs).detach()
    torch.testing.assert_close(guess.objective, due)


def test_one_training_serves_all_victims_of_an_occasion(monkeypatch, model, digits, own):
    fitted, fit = [], Inverter.fit.__func__
    monkeypatch.setattr(Inverter, "fit", classmethod(lambda cls, *how: fitted.append(how) or fit(cls, *how)))
    adaptive = [p for scheme in ("none", "signsgd") for p in problems(model, digits, scheme, own)]
    naive = [p for scheme in ("none", "signsgd") for p in problems(model, digits, scheme, own, knowledge="naive")]
    guess = SMALL.run([*adaptive, *naive])
    assert len(fitted) == 3
    assert guess.notes == (
        "learned was trained on 600 rounds of digits' training split, under none",
        "learned was trained on 600 rounds of digits' training split, under signsgd",
        "learned was trained on 600 rounds of digits' training split, under plain gradients",
    )


def test_it_says_where_rounds_are_run_one_by_one(model, digits):
    guess = SMALL.run(problems(model, digits, "sga", owned(10), victims=[0], fellows=1))
    assert guess.notes == ("learned was trained on 10 rounds of digits' training split, under sga, round by round",)
    assert guess.inputs.shape == (1, 2, *digits.shape)


def test_it_says_that_it_knows_no_residuals(model, digits):
    guess = SMALL.run(problems(model, digits, "topk:ratio=0.1", owned(10), victims=[0], round=2))
    assert guess.notes[0].endswith("under topk:ratio=0.1, without the victims' residuals")


def test_problems_of_two_models_are_refused(model, digits, own):
    other = models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=1)
    mixed = [*problems(model, digits, "none", own, [0]), *problems(other, digits, "none", own, [1])]
    for attack in (SMALL, ClassMean()):
        with pytest.raises(GradwireError, match="must share a model"):
            attack.run(mixed)


def test_a_trained_one_is_refused_for_anything_else(model, digits, own):
    attacked = problems(model, digits, "powersgd", own)
    trained = SMALL.trained(attacked)
    torch.testing.assert_close(trained.run(attacked[1:]).inputs, trained.run(attacked).inputs[1:])
    other = models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=1)
    for wrong, said in {
        r"for round 0 \(model \w{8}\); the view is of round 0 \(model \w{8}\)": problems(
            other, digits, "powersgd", own
        ),
        r"for round 0 \(model (\w{8})\); the view is of round 3 \(model \1\)": problems(
            model, digits, "powersgd", own, round=3
        ),
        "scheme 'powersgd', not 'none'": problems(model, digits, "none", own),
        "knowledge 'adaptive', not 'naive'": problems(model, digits, "powersgd", own, knowledge="naive"),
    }.items():
        with pytest.raises(GradwireError, match=wrong):
            trained.run(said)
    later = [replace(p, view=replace(p.view, public={"head.weight": torch.ones(48, 1)})) for p in attacked]
    with pytest.raises(GradwireError, match="train one for it"):
        trained.run(later)


def test_it_never_sees_the_truth(model, digits, own):
    images, labels = (tensor.clone() for tensor in digits.batch([len(digits) - 1]))

    def found():
        posed = replace(gradwire.attacks.inversion.pose(view, "adaptive"), public_examples=own)
        return [attack.run([posed]).inputs for attack in (SMALL, ClassMean())]

    view = gradwire.capture(model, images, labels, "topk:ratio=0.1", mode="eval")
    before = found()
    images.zero_()
    assert all(map(torch.equal, before, found()))


def test_they_pass_the_check_of_every_attack(model, digits):
    attacked = problems(model, digits, "topk:ratio=0.1", owned(30), victims=range(2), batch=2)
    check_attack("learned:hidden=8,epochs=1,size=8", attacked)
    check_attack("class-mean", attacked)


def test_an_unknown_class_is_the_mean_of_all(model, digits, own):
    attacked = problems(model, digits, "none", own)
    absent = own.targets != attacked[0].targets
    few = replace(own, inputs=own.inputs[absent], targets=own.targets[absent])
    guess = ClassMean().run([replace(problem, public_examples=few) for problem in attacked])
    torch.testing.assert_close(guess.inputs[0, 0], few.inputs.mean(0))
    same = few.inputs[few.targets == attacked[1].targets].mean(0)
    torch.testing.assert_close(guess.inputs[1, 0], same)


@pytest.mark.parametrize("attack", [Learned(), ClassMean()])
def test_without_images_of_its_own_it_is_refused(model, digits, attack):
    with pytest.raises(GradwireError, match=r"needs images of the adversary's own; there are none \(--public N\)"):
        attack.run(problems(model, digits, "none", None))


def test_bad_input():
    with pytest.raises(GradwireError, match="learned: epochs is 0; it must be at least 1"):
        Learned(epochs=0)
    with pytest.raises(GradwireError, match="learned: step is -1; it must be positive"):
        Learned(step=-1)


def test_entries_that_were_not_sent_count_as_zero():
    layout = Layout({"a": (2, 2), "b": (3,), "c": (1,)})
    sparse = Support(torch.tensor([[5.0, 7.0]]), torch.tensor([[3, 0]]), torch.tensor([[1.0, 0.0]]))
    first, second = {"b": [Dense(torch.ones(1, 3))], "a": [sparse]}, {"b": [Dense(torch.ones(1, 3))]}
    of = blocks([second, first], layout)
    assert of == (Block("a", 0, 4), Block("b", 0, 3))
    assert numbers(first, of).tolist() == [[0, 0, 0, 5, 1, 1, 1]]
    assert numbers(second, of).tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_a_scheme_that_sends_now_more_now_less_is_refused():
    with pytest.raises(GradwireError, match="sends 3 numbers of 'b' in one round and 2 in another"):
        numbers({"b": [Dense(torch.ones(1, 3))]}, [Block("b", 0, 2)])


def test_what_is_short_stays_as_it_is_and_what_is_long_keeps_its_distances():
    values = 5 + 3 * torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    whole = Sketch.fit(values, [Block("a", 0, 1000)], 1000, 0)(values)
    torch.testing.assert_close(whole.abs(), ((values - values.mean(0)) / values.std(0, correction=0)).abs())
    sketch = Sketch.fit(values, [Block("a", 0, 990), Block("b", 0, 10)], 310, 0)
    found = sketch(values)
    assert found.shape == (400, 310)
    torch.testing.assert_close(found[:, 300:], whole[:, 990:] * (found[:, 300:] * whole[:, 990:]).sign())
    ratio = torch.pdist(found[:, :300]).square() / torch.pdist(whole[:, :990]).square()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)
    assert ratio.std() < 0.15


def test_numbers_that_are_far_off_are_cut_and_constant_ones_do_no_harm():
    values = torch.cat([torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.ones(50, 1)], 1)
    sketch = Sketch.fit(values, [Block("a", 0, 4)], 4, 0)
    assert sketch(1e6 * values).abs().max() == 8
    assert sketch(values)[:, 3].abs().max() == 0
