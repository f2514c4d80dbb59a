"""The autoencoder, its training, and what it makes of local steps."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStep, Round, parse
from gradwire.schemes.autoencoder import LENGTHENED
from gradwire.schemes.codec import network
from gradwire.schemes.codec.layers import Layers
from tests.schemes.autoencoders import (
    LAYERS,
    LAYOUT,
    NUMBERS,
    PARTIES,
    SHAPES,
    Training,
    alone,
    average,
    through,
)
from tests.schemes.rounds import flat, random_update


def test_parameters_first_decoders_once_then_codes():
    training, kinds = Training(), []
    for _ in range(4):
        training.run()
        kinds.append({frozenset(each) for each in training.sent.values()})
    assert kinds == [
        {frozenset({"parameters"})},
        {frozenset({"parameters", "decoder", "version"})},
        {frozenset({"code", "version"})},
        {frozenset({"code", "version"})},
    ]


def test_the_model_becomes_the_mean_of_what_the_autoencoders_left():
    training = Training()
    for _ in range(4):
        training.run()
        torch.testing.assert_close(flat(training.model), average(training), atol=1e-5, rtol=1e-4)


def test_the_autoencoder_learns_in_the_warming_up_and_stays_as_it_is_afterwards():
    training = Training()
    weights = [training.private["client:0"]["weights"]]
    for _ in range(4):
        training.run()
        weights.append(training.private["client:0"]["weights"])
    changed = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert changed == [True, True, False, False]
    assert not torch.equal(weights[1], training.private["client:1"]["weights"])


def test_warming_up_iterations_are_not_perturbed_and_those_after_them_are():
    scheme, parameters, state, context = alone("warmup_iterations=2,passes=1")
    left = []
    for index in range(3):
        now, state = scheme.after_step(parameters, state, LocalStep(context, index, 3, 8, 8, index))
        left.append(now)
    assert torch.equal(flat(left[0]), flat(parameters))
    assert torch.equal(flat(left[1]), flat(parameters))
    assert not torch.equal(flat(left[2]), flat(parameters))
    assert int(state["fits"]) == 2 * LAYERS


@pytest.mark.parametrize("start", ["projection", "uniform"])
def test_training_it_brings_its_output_nearer(start):
    scheme, parameters, fresh, context = alone(f"warmup_iterations=30,warmup_rounds=0,lr=0.002,start={start}")
    before, _ = scheme.after_step(parameters, fresh | {"told": torch.ones(())}, LocalStep(context, 0, 1, 8, 8, 0))
    after, state = scheme.after_step(parameters, fresh, LocalStep(context, 0, 1, 8, 8, 0))
    assert int(state["fits"]) == 2 * 30 * LAYERS
    error = [float((flat(each) - flat(parameters)).square().mean()) for each in (before, after)]
    assert error[1] < 0.7 * error[0]
    off = float((flat(after) - flat(parameters)).norm() / flat(parameters).norm())
    assert float(state["error"]) == pytest.approx(off, rel=1e-5)
    says = scheme.notes({"client:0": state})[1]
    assert says.endswith(f"after {2 * 30 * LAYERS} steps of training it puts parameters off by {off:.0%}")


def test_all_autoencoders_begin_alike():
    scheme = parse("autoencoder")
    assert torch.equal(*(scheme.private_state(LAYOUT, secret)["weights"] for secret in (1, 2)))


@pytest.mark.parametrize(("index", "left"), [(0, 1.0), (3, 0.25), (4, 1.0)])
def test_the_rate_falls_while_all_warm_up_and_is_whole_for_who_comes_later(index, left):
    scheme, parameters, state, _ = alone("warmup_rounds=4,warmup_iterations=1,passes=1,lr=0.01,segment=32000")
    context = Round(index, PARTIES, 0, LAYOUT, start=parameters)
    _, after = scheme.after_step(parameters, state, LocalStep(context, 0, 1, 8, 8, 0))
    # Adam's first step is λ long in every direction, and its next ones are no longer than that, or hardly.
    farthest = float((after["weights"] - state["weights"]).abs().max())
    assert 0.01 * left < farthest < 1.5 * LAYERS * 0.01 * left


@pytest.mark.parametrize("factor", [1e-3, 4.0])
def test_how_large_parameters_are_makes_no_difference(factor):
    left = []
    for size in (1.0, factor):
        scheme, parameters, state, context = alone("warmup_iterations=5,warmup_rounds=0", size)
        left.append(flat(scheme.after_step(parameters, state, LocalStep(context, 0, 1, 8, 8, 0))[0]))
    torch.testing.assert_close(left[1], factor * left[0], atol=1e-4 * factor, rtol=1e-4)


def test_a_layer_of_zeros_is_encoded_as_it_is():
    scheme, parameters, state, _ = alone("warmup_iterations=5,warmup_rounds=0")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    context = Round(0, PARTIES, 0, LAYOUT, start=zeros)
    left, _ = scheme.after_step(zeros, state, LocalStep(context, 0, 1, 8, 8, 0))
    assert torch.isfinite(flat(left)).all()


@pytest.mark.parametrize("steps", ["through", "straight", "replaced"])
def test_steps_go_on_from_ones_own_parameters_or_from_what_the_autoencoder_makes_of_them(steps):
    scheme, parameters, fresh, context = alone(f"steps={steps}")
    fresh["told"] = torch.ones(())
    changes = [{n: 0.1 * c for n, c in random_update(10 + i, SHAPES).items()} for i in range(3)]
    now, state, expected = parameters, fresh, parameters
    for index, change in enumerate(changes, start=1):
        stepped = {n: p + change[n] for n, p in now.items()}
        now, state = scheme.after_step(stepped, state, LocalStep(context, index, 5, 8, 8, 0))
        start = through(scheme, expected, fresh, context) if steps == "replaced" and index > 1 else expected
        expected = {n: p + change[n] for n, p in start.items()}
        left = through(scheme, expected, fresh, context)
        torch.testing.assert_close(flat(now), flat(left), atol=1e-5, rtol=1e-4)
    if steps != "replaced":
        torch.testing.assert_close(state["own"].detach(), flat(expected), atol=1e-5, rtol=1e-4)
    _, after = scheme.after_step(now, state, LocalStep(context, 4, 5, 8, 8, 0))
    assert set(after) == set(fresh) | {"code"}
    assert not any(tensor.requires_grad for tensor in after.values())


def test_errors_do_not_add_up_over_rounds_in_which_nothing_is_learned():
    scheme, parameters, state, context = alone("warmup_rounds=0,warmup_iterations=40,lr=0.002")
    left, state = scheme.after_step(parameters, state, LocalStep(context, 0, 1, 8, 8, 0))
    state["told"] = torch.ones(())
    layers = Layers.of(replace(context, start=left))

    def again(vector):
        return layers.decode(network.halves(state["weights"])[1], layers.encode(state["weights"], vector))

    now, fed_back = left, flat(left)
    for _ in range(5):
        now, _ = scheme.after_step(now, state, LocalStep(replace(context, start=now), 0, 1, 8, 8, 0))
        fed_back = again(fed_back)
    off, fed_back_off = (float((each - flat(left)).norm() / flat(left).norm()) for each in (flat(now), fed_back))
    assert off < 0.3 * fed_back_off


def test_a_step_follows_the_slope_at_ones_own_parameters_and_lowers_the_loss_as_a_plain_one_would():
    scheme, parameters, fresh, context = alone("warmup_rounds=0")
    parameters, goal = ({n: p.double() for n, p in each.items()} for each in (parameters, random_update(5, SHAPES)))
    context = replace(context, start=parameters, layout=Layout.of(parameters))
    fresh |= {"told": torch.ones(()), "fits": torch.ones(()), "weights": 3 * fresh["weights"].double()}

    def loss(vector):
        left = through(scheme, LAYOUT.unflatten(vector), fresh, context)
        return float((flat(left) - flat(goal)).square().sum() / 2)

    left, state = scheme.after_step(parameters, fresh, LocalStep(context, 0, 3, 8, 8, 0))
    plain = {name: left[name] - goal[name] for name in goal}
    step = flat(scheme.before_step(plain, state, LocalStep(context, 1, 3, 8, 8, 0))[0])
    random = torch.Generator().manual_seed(3)
    slopes = []
    for along in (step, torch.randn(NUMBERS, generator=random, dtype=torch.float64)):
        ahead, behind = (loss(state["own"] + sign * 1e-6 * along) for sign in (1, -1))
        slopes.append((ahead - behind) / 2e-6)
    length = slopes[1] / float(step @ along)  # the step is the slope by a number
    assert slopes[0] == pytest.approx(length * float(step.square().sum()), rel=1e-3)
    assert slopes[0] == pytest.approx(float(flat(plain).square().sum()), rel=1e-3)
    for steps in ("straight", "replaced"):
        other = replace(scheme, steps=steps)
        assert other.before_step(plain, state, LocalStep(context, 1, 3, 8, 8, 0))[0] is plain


def test_a_slope_of_which_next_to_nothing_gets_through_is_lengthened_no_more_than_so_many_times():
    scheme, parameters, state, context = alone("warmup_rounds=0,start=uniform")  # whose derivative is very small
    state["told"] = torch.ones(())
    slope = random_update(5, SHAPES)
    _, state = scheme.after_step(parameters, state, LocalStep(context, 0, 3, 8, 8, 0))
    (back,) = torch.autograd.grad(state["left"], state["own"], flat(slope), retain_graph=True)
    assert 0 < float(LENGTHENED * back.norm()) < 0.1 * float(flat(slope).norm())
    step = flat(scheme.before_step(slope, state, LocalStep(context, 1, 3, 8, 8, 0))[0])
    torch.testing.assert_close(step, LENGTHENED * back)
    _, state = scheme.after_step(parameters, state, LocalStep(context, 0, 3, 8, 8, 0))
    nothing = {name: torch.zeros_like(tensor) for name, tensor in slope.items()}
    assert not flat(scheme.before_step(nothing, state, LocalStep(context, 1, 3, 8, 8, 0))[0]).any()


def test_bad_parameters():
    for spec, why in (
        ("warmup_rounds=-1", "warmup_rounds is -1; it must not be negative"),
        ("warmup_iterations=0", "warmup_iterations is 0; it must be at least 1"),
        ("segment=100", "segment is 100; it must be a multiple of 32"),
        ("lr=0", "lr is 0.0; it must be positive"),
        ("jitter=-0.1", "jitter is -0.1; it must not be negative"),
        ("start=zero", "it must be one of projection, uniform"),
        ("steps=back", "it must be one of through, straight, replaced"),
        ("optimizer=lbfgs", "it must be one of adam, sgd"),
        ("codec=none", "it must be one of trained, untrained, projection"),
        ("coded=updates,steps=replaced", "steps is 'replaced'; coded=updates leaves steps as they are"),
        ("coded=updates,response=affine", "response is 'affine'; coded=updates puts no step through the autoencoder"),
        ("error_feedback=false", "error_feedback is False; coded=parameters feeds nothing back"),
        ("codec=untrained,lr=1", "lr is 1.0; codec=untrained is never trained"),
        ("codec=projection,start=uniform", "start is 'uniform'; codec=projection has no other weights"),
        ("codec=projection,response=affine", "response is 'affine'; codec=projection is linear"),
    ):
        with pytest.raises(GradwireError, match=why):
            parse(f"autoencoder:{spec}")
    assert parse("autoencoder").least_rounds == 35
