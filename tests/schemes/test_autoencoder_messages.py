"""What the autoencoder sends: sizes, codes that cannot be read, and what adversaries decode of it."""

import pytest
import torch
from torch import nn

from gradwire import capture
from gradwire.errors import GradwireError
from gradwire.schemes import StackedMeasurement, observation
from gradwire.schemes.codec import network
from gradwire.schemes.gradients import Full
from tests.schemes.autoencoders import LAYERS, LAYOUT, Training, average
from tests.schemes.rounds import flat


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
