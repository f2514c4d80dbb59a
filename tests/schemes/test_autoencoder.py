from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from gradwire import capture
from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, LocalStep, Round, StackedMeasurement, observation, parse
from gradwire.schemes.autoencoder import LENGTHENED
from gradwire.schemes.codec import network
from gradwire.schemes.codec.layers import Layers
from gradwire.schemes.gradients import Full
from gradwire.wire import InProcess
from tests.schemes.rounds import flat, random_update

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (10, 12), "head.bias": (10,)}
LAYOUT = Layout(SHAPES)
PARTIES = ("client:0", "client:1")
NUMBERS = sum(LAYOUT.sizes.values())
LAYERS = len(SHAPES)
"""As many steps does a pass take: each layer is shorter than a segment."""


class Training:
    """Two clients whose local steps are drawn at random, round after round."""

    def __init__(self, spec="autoencoder:warmup_rounds=2,warmup_iterations=2,passes=1", parties=PARTIES):
        self.scheme = parse(spec)
        self.private = {p: self.scheme.private_state(LAYOUT, i) for i, p in enumerate(parties)}
        self.public, self.round, self.model = {}, 0, random_update(99, SHAPES)

    def run(self, steps=3, take=None, tamper=None):
        parties = tuple(take or self.private)
        context = Round(self.round, parties, 0, LAYOUT, start=self.model)
        brought, self.settled = {}, {}
        for party in parties:
            now, state = self.model, self.private[party]
            for index in range(steps):
                change = random_update(1000 * self.round + 10 * index + len(party), SHAPES)
                stepped = {n: p - 0.01 * change[n] for n, p in now.items()}
                now, state = self.scheme.step_hook.after_step(
                    stepped, state, LocalStep(context, index, steps, 8, 64, 0)
                )
            if tamper and party == parties[0]:
                state = tamper(state)
            self.settled[party] = now
            update = {name: p - now[name] for name, p in self.model.items()}
            brought[party] = Contribution(update, state)
        transport = InProcess()
        served = run_round(self.scheme, brought, self.public, context, transport)
        self.sent = {m.sender: m.tensors for m in transport.transcript.messages() if m.sender != "server"}
        self.bytes = transport.transcript.bytes_up(parties[0])
        self.private |= served.private
        self.public, self.round = served.public, self.round + 1
        self.model = {name: p - served.aggregate[name] for name, p in self.model.items()}
        return served


def alone(spec, factor=1.0):
    """A scheme, parameters, the state of an untrained autoencoder, and the first round, which begins with these."""
    scheme, parameters = parse(f"autoencoder:{spec}"), {n: factor * p for n, p in random_update(1, SHAPES).items()}
    return scheme, parameters, scheme.private_state(LAYOUT, 0), Round(0, PARTIES, 0, LAYOUT, start=parameters)


def average(training, parties=PARTIES):
    return torch.stack([flat(training.settled[party]) for party in parties]).mean(0)


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
    scheme, parameters, fresh, context = alone(f"warmup_iterations=60,warmup_rounds=0,lr=0.001,start={start}")
    before, _ = scheme.after_step(parameters, fresh | {"told": torch.ones(())}, LocalStep(context, 0, 1, 8, 8, 0))
    after, state = scheme.after_step(parameters, fresh, LocalStep(context, 0, 1, 8, 8, 0))
    assert int(state["fits"]) == 2 * 60 * LAYERS
    error = [float((flat(each) - flat(parameters)).square().mean()) for each in (before, after)]
    assert error[1] < 0.7 * error[0]
    off = float((flat(after) - flat(parameters)).norm() / flat(parameters).norm())
    assert float(state["error"]) == pytest.approx(off, rel=1e-5)
    says = scheme.notes({"client:0": state})[1]
    assert says.endswith(f"after {2 * 60 * LAYERS} steps of training it puts parameters off by {off:.0%}")


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


def through(scheme, parameters, state, context):
    """What a client's autoencoder makes of parameters."""
    return scheme.after_step(parameters, state, LocalStep(context, 1, 2, 8, 8, 0))[0]


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
    scheme, parameters, state, context = alone("warmup_rounds=0,warmup_iterations=100,lr=0.001")
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


def test_a_quarter_of_the_numbers_crosses_the_wire():
    training = Training()
    for _ in range(3):
        training.run()
    code = training.sent["client:0"]["code"]
    assert len(code) == sum(network.code_size(size) for size in LAYOUT.sizes.values())
    assert 4 * len(code) <= training.bytes < 4 * len(code) + 400


def test_who_was_not_there_sends_the_decoder_with_the_first_code():
    training = Training()
    training.run()
    training.run(take=["client:0"])
    training.run()
    assert set(training.sent["client:0"]) == {"code", "version"}
    assert set(training.sent["client:1"]) == {"code", "version", "decoder"}
    new = Training()
    new.round = 7
    new.run()
    assert int(new.private["client:0"]["fits"]) == 2 * LAYERS
    torch.testing.assert_close(flat(new.model), average(new), atol=1e-5, rtol=1e-4)


def test_one_that_diverges_goes_back_to_its_last_good_one_and_is_counted():
    training = Training("autoencoder:warmup_rounds=2,warmup_iterations=2,optimizer=sgd,lr=1e30")
    before = training.private["client:0"]["weights"]
    training.run()
    state = training.private["client:0"]
    assert torch.equal(state["weights"], before)
    assert int(state["fallbacks"]) == 1
    assert torch.isfinite(flat(training.model)).all()
    assert training.scheme.notes(training.private)[-1].startswith("autoencoder: fell back 2 times")


@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (lambda s: s | {"code": s["code"][1:]}, r"client:0: 'code' holds shape (67,) of torch.float32; shape (68,)"),
        (
            lambda s: s | {"fits": s["fits"] + 1},
            "client:0's code is of version 17; the decoder at hand is of version 16",
        ),
        (
            lambda s: s | {"code": s["code"] * float("nan")},
            "'code' is not finite in 68 of 68 entries",
        ),
        (
            lambda s: s | {"fits": torch.zeros(2, dtype=torch.int64)},
            "client:0: 'version' holds shape (2,) of torch.int64; shape () of torch.int64 was due",
        ),
    ],
)
def test_a_code_that_cannot_be_read_costs_the_round_that_client_only(tamper, why):
    training = Training()
    training.run()
    training.run()
    served = training.run(tamper=tamper)
    assert list(served.refused) == ["client:0"]
    assert why in served.refused["client:0"]
    torch.testing.assert_close(flat(training.model), average(training, ["client:1"]), atol=1e-5, rtol=1e-4)


def test_a_code_without_any_decoder():
    training = Training()
    training.private["client:0"]["told"] = torch.ones((), dtype=torch.int64)
    training.round = 5
    assert "sent a code and never a decoder" in training.run().refused["client:0"]
    alone = Training(parties=["client:0"])
    alone.private["client:0"]["told"] = torch.ones((), dtype=torch.int64)
    alone.round = 5
    with pytest.raises(GradwireError, match="round 5: no client's message can be read"):
        alone.run()


def test_every_adversary_decodes_alike():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, spec = torch.tensor([1, 2]), "autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1"
    fellow = [(images.flip(0), labels)]
    found = []
    for adversary in ("server", "eavesdropper", "client"):
        view = capture(net, images, labels, spec, adversary=adversary, fellows=fellow, local_steps=1)
        scheme, seen = observation(view)
        found.append(flat(scheme.decode(seen)))
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=1e-3)


def test_victims_with_decoders_of_their_own_are_one_stack():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    spec = "autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1"
    seen = [
        observation(capture(net, torch.rand(1, 1, 4, 4), torch.tensor([i]), spec, local_steps=1, seed=i))
        for i in (0, 1)
    ]
    measured = [scheme.measure(each) for scheme, each in seen]
    decoded = [scheme.decode(each) for scheme, each in seen]
    stack = StackedMeasurement.of(measured, torch.zeros(1))
    update = {name: Full(torch.stack([each[name] for each in decoded])) for name in decoded[0]}
    assert float((stack.distance(update) / stack.energy).max()) < 1e-9


def test_gradients_of_one_batch_are_not_what_it_sends():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    with pytest.raises(GradwireError, match="needs what local steps make of the parameters, not a gradient"):
        capture(net, torch.rand(1, 1, 4, 4), torch.tensor([0]), "autoencoder")


@pytest.mark.parametrize("codec", ["untrained", "projection"])
def test_controls_send_the_same_messages_and_never_learn(codec):
    trained, control = Training(), Training(f"autoencoder:warmup_rounds=2,warmup_iterations=2,codec={codec}")
    before = control.private["client:0"]["weights"]
    for number in range(4):
        for training in (trained, control):
            training.run()
        torch.testing.assert_close(flat(control.model), average(control), atol=1e-5, rtol=1e-4)
        assert set(trained.sent["client:0"]) == set(control.sent["client:0"])
        if number > 1:
            assert trained.sent["client:0"]["code"].shape == control.sent["client:0"]["code"].shape
    assert torch.equal(control.private["client:0"]["weights"], before)
    assert int(control.private["client:0"]["fits"]) == 0


def test_the_bare_projection_is_the_untrained_autoencoder():
    both = [Training(f"autoencoder:warmup_rounds=0,codec={codec}") for codec in ("untrained", "projection")]
    for _ in range(2):
        for training in both:
            training.run()
    torch.testing.assert_close(flat(both[0].model), flat(both[1].model), atol=1e-4, rtol=1e-4)


def test_warming_up_counted_by_client_lasts_as_long_for_who_was_not_there():
    kinds = {}
    for counted in ("run", "client"):
        training = Training(f"autoencoder:warmup_rounds=2,warmup_iterations=1,passes=1,counted={counted}")
        training.run(take=["client:0"])
        training.run()
        training.run()
        kinds[counted] = [sorted(training.sent[party]) for party in PARTIES]
        torch.testing.assert_close(flat(training.model), average(training), atol=1e-5, rtol=1e-4)
    assert kinds["run"] == [["code", "version"], ["code", "version"]]
    assert kinds["client"] == [["code", "version"], ["decoder", "parameters", "version"]]


@pytest.mark.parametrize("feedback", [True, False])
def test_coded_updates_are_what_steps_changed_and_what_was_left_out_before(feedback):
    training = Training(
        f"autoencoder:warmup_rounds=1,warmup_iterations=2,passes=1,coded=updates,error_feedback={str(feedback).lower()}"
    )
    held = torch.zeros(NUMBERS)
    for number in range(3):
        start, state = training.model, training.private["client:0"]
        training.run()
        torch.testing.assert_close(flat(training.model), average(training), atol=1e-5, rtol=1e-4)
        changes = [random_update(1000 * number + 10 * index + len("client:0"), SHAPES) for index in range(3)]
        changed = 0.01 * sum(flat(change) for change in changes)
        sent = flat(start) - flat(training.settled["client:0"])
        if feedback:
            held = held + changed - sent
            kept = training.scheme.kept_back(training.private["client:0"], LAYOUT)
            torch.testing.assert_close(flat(kept), held, atol=1e-6, rtol=1e-4)
            assert bool(held.any())
        else:
            assert training.scheme.kept_back(training.private["client:0"], LAYOUT) == {}
    assert set(training.sent["client:0"]) == {"code", "sizes", "version"}
    assert 0 < int(state["fits"]) == int(training.private["client:0"]["fits"])


def test_the_adversary_reads_coded_updates():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False))
    image, spec = torch.rand(1, 1, 4, 4), "autoencoder:warmup_rounds=0,codec=projection,coded=updates"
    scheme, seen = observation(capture(net, image, torch.tensor([1]), spec, local_steps=1, lr=0.1))
    plain, other = observation(capture(net, image, torch.tensor([1]), "none", local_steps=1, lr=0.1))
    update = {name: Full(tensor[None]) for name, tensor in plain.decode(other).items()}
    stack = StackedMeasurement.of([scheme.measure(seen)], torch.zeros(1))
    assert float((stack.distance(update) / stack.energy).max()) < 1e-6


@pytest.mark.parametrize("steps", ["through", "straight", "replaced"])
def test_an_affine_response_sends_about_what_the_exact_one_does(steps):
    ends = []
    for response in ("exact", "affine"):
        training = Training(f"autoencoder:warmup_rounds=1,warmup_iterations=2,steps={steps},response={response}")
        start = training.model
        for _ in range(2):
            training.run(steps=4)
        ends.append(flat(training.model) - flat(start))
    assert 0 < float((ends[0] - ends[1]).norm()) < 0.02 * float(ends[0].norm())


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
