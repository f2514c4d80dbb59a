"""The paper read in other ways, and controls beside it."""

import pytest
import torch
from torch import nn

from gradwire import capture
from gradwire.schemes import StackedMeasurement, observation
from gradwire.schemes.gradients import Full
from tests.schemes.autoencoders import LAYOUT, NUMBERS, PARTIES, SHAPES, Training, average
from tests.schemes.rounds import flat, random_update


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
