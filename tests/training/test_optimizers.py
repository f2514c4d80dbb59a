"""Optimisers, schedules and what they leave in a checkpoint."""

import pytest
import torch

from gradwire import models
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, train
from gradwire.training.optimizer import learning_rate
from tests.tasks import of

SHAPE, CLASSES = (1, 8, 8), 4


class Pictures:
    """A hundred random pictures with labels, as much of a `Dataset` as training asks for."""

    shape, task = SHAPE, of(SHAPE)

    def __init__(self):
        g = torch.Generator().manual_seed(0)
        self.inputs = torch.rand(100, *SHAPE, generator=g)
        self.targets = torch.randint(CLASSES, (100,), generator=g)

    def __len__(self):
        return len(self.inputs)

    def batch(self, chosen):
        chosen = torch.as_tensor(chosen)
        return self.inputs[chosen], self.targets[chosen]


def new_state(settings):
    return begin(settings, models.build("mlp", SHAPE, CLASSES, seed=0))


def losses(state, settings):
    found = []
    train(state, settings, Pictures(), after_round=lambda _, loss: found.append(loss))
    return found


OPTIMIZERS = [
    {"optimizer": "sgd", "momentum": 0.0},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
    {"optimizer": "sgd", "schedule": "cosine"},
    {"optimizer": "adam", "lr": 0.01, "schedule": "cosine", "scheme": "dgc:ratio=0.1"},
    {"scheme": "qsgd"},
]


@pytest.mark.parametrize("how", OPTIMIZERS, ids=str)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, how):
    settings = TrainSettings(**{"rounds": 12, "clients": 2, "batch_size": 10, **how})
    whole, part = new_state(settings), new_state(settings)
    expected = losses(whole, settings)
    path, found = tmp_path / "checkpoint", []

    class Interrupted(Exception):
        pass

    def stop(state, loss):
        found.append(loss)
        if state.round == 5:
            state.save(path, settings)
            raise Interrupted

    with pytest.raises(Interrupted):
        train(part, settings, Pictures(), after_round=stop)
    resumed = new_state(settings)
    resumed.restore(path, settings)
    assert found + losses(resumed, settings) == expected
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


@pytest.mark.parametrize("how", [each for each in OPTIMIZERS if "scheme" not in each], ids=str)
def test_one_client_is_plain_pytorch(how):
    settings = TrainSettings(**{"rounds": 5, "clients": 1, "batch_size": 100, **how})
    # In float64: Adam turns a gradient's rounding errors into steps wherever it is next to zero.
    model, ours = (models.build("mlp", SHAPE, CLASSES, seed=0).double() for _ in range(2))
    pictures = Pictures()
    pictures.inputs = pictures.inputs.double()
    state = begin(settings, ours)
    train(state, settings, pictures)
    if settings.optimizer == "adam":
        theirs = torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    else:
        theirs = torch.optim.SGD(
            model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
    schedule = None
    if settings.schedule == "cosine":
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=settings.rounds)
    for _ in range(settings.rounds):
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(model(pictures.inputs), pictures.targets).backward()
        theirs.step()
        if schedule:
            schedule.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-4)


def test_a_scheme_with_momentum_of_its_own_replaces_the_optimisers():
    own = new_state(TrainSettings(scheme="dgc:momentum=0.5", momentum=0.9, nesterov=True)).optimizer
    assert own.defaults["momentum"] == 0
    assert not own.defaults["nesterov"]
    assert new_state(TrainSettings(scheme="dgc:momentum=0", momentum=0.9)).optimizer.defaults["momentum"] == 0.9


def test_the_cosine_falls_to_zero():
    settings = TrainSettings(lr=0.4, schedule="cosine", rounds=100)
    assert [learning_rate(settings, r) for r in (0, 50, 100)] == pytest.approx([0.4, 0.2, 0.0])
    assert learning_rate(TrainSettings(lr=0.4), 99) == 0.4


def test_a_schedule_is_not_resumed_with_other_rounds(tmp_path):
    settings = TrainSettings(schedule="cosine", rounds=10)
    new_state(settings).save(tmp_path / "c", settings)
    longer = TrainSettings(schedule="cosine", rounds=20)
    with pytest.raises(GradwireError, match="has rounds=10; this run has rounds=20"):
        new_state(longer).restore(tmp_path / "c", longer)
    constant = TrainSettings(rounds=10)
    new_state(constant).save(tmp_path / "d", constant)
    new_state(TrainSettings(rounds=20)).restore(tmp_path / "d", TrainSettings(rounds=20))


def poison(state, loss):
    """After round 2 the first client's images meet a weight that is not a number for one round."""
    weight = next(state.model.parameters())
    if state.round == 2:
        state.kept = weight.detach().clone()
        weight.data.fill_(float("nan"))
    if state.round == 3:
        weight.data.copy_(state.kept)


def test_a_gradient_that_is_not_finite_stops_the_run_and_is_named():
    settings = TrainSettings(rounds=5, clients=2)
    with pytest.raises(GradwireError, match=r"gradient of '.*weight' is not finite in \d+ of \d+ entries"):
        train(new_state(settings), settings, Pictures(), after_round=poison)


def test_or_the_round_is_skipped_and_counted():
    settings = TrainSettings(rounds=5, clients=2, on_nan="skip")
    state, steps = new_state(settings), []
    train(state, settings, Pictures(), after_round=lambda s, loss: (poison(s, loss), steps.append(s.bytes_up)))
    assert state.skipped == 1
    assert state.round == 5
    assert steps[2] == steps[1]
    assert steps[3] > steps[2]
    assert all(torch.isfinite(p).all() for p in state.model.parameters())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: sgd, adam"),
        ({"schedule": "step"}, "unknown schedule 'step'; known: constant, cosine"),
        ({"on_nan": "hope"}, "unknown on_nan 'hope'; known: stop, skip"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs optimizer sgd and a positive momentum"),
    ],
)
def test_settings_that_cannot_be(how, message):
    with pytest.raises(GradwireError, match=message):
        TrainSettings(**how)
