"""Federated averaging against McMahan et al.'s algorithm 1, written out here in plain PyTorch."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gradwire import models
from gradwire.data import partition
from gradwire.engine import stack
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, loop, train
from gradwire.training.batches import descents, sampled
from gradwire.training.cohort import CohortPlan
from gradwire.wire import InProcess, Transcript
from tests.tasks import of

CLASSES = 4


class Pictures:
    """Random pictures with labels in float64, as much of a `Dataset` as training asks for."""

    shape, task = (1, 8, 8), of((1, 8, 8))

    def __init__(self, count=60):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.rand(count, *self.shape, generator=generator, dtype=torch.float64)
        self.targets = torch.randint(CLASSES, (count,), generator=generator)

    def __len__(self):
        return len(self.inputs)

    def batch(self, chosen):
        chosen = torch.as_tensor(chosen)
        return self.inputs[chosen], self.targets[chosen]


def network(name="mlp"):
    """A model by its name; "norm" has batch norm, "busy" keeps a core busy, "dropping" does too and has dropout."""
    torch.manual_seed(0)
    if name == "norm":
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES)
    elif name in ("busy", "dropping"):
        inside = nn.Dropout(0.5 if name == "dropping" else 0.0)
        wide = nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        layers = *wide, inside, nn.Flatten(), nn.Linear(576, CLASSES)
    else:
        return models.build(name, Pictures.shape, CLASSES, seed=0).double()
    return nn.Sequential(*layers).double()


def trained(how, name="mlp", pictures=None):
    settings = TrainSettings(**how)
    state = begin(settings, network(name))
    train(state, settings, pictures or Pictures())
    return state


def fedavg(how, name="mlp", pictures=None):
    """Algorithm 1: the server's and the clients' part; `descents` gives the order of examples, `sampled` gives S_t."""
    settings, pictures, model = TrainSettings(**how), pictures or Pictures(), network(name)
    shards = partition.split(settings.partition, pictures.targets, settings.clients, settings.seed)
    for round in range(settings.rounds):
        results, weights = [], []
        for k in sampled(settings, round):
            own = copy.deepcopy(model)
            sgd = torch.optim.SGD(own.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
            for where in descents(settings, f"client:{k}", len(shards[k]), round).plan:
                images, labels = pictures.batch(shards[k][where])
                sgd.zero_grad()
                cross_entropy(own(images), labels).backward()
                sgd.step()
            results.append(own.state_dict())
            weights.append(len(shards[k]) if settings.average == "weighted" else 1)
        mean = {n: sum(w * r[n] for w, r in zip(weights, results, strict=True)) / sum(weights) for n in results[0]}
        before = model.state_dict()
        model.load_state_dict({n: before[n] + settings.server_rate * (mean[n] - before[n]) for n in mean})
    return model.state_dict()


def same(state, reference):
    for name, tensor in state.model.state_dict().items():
        if tensor.is_floating_point():  # batch norm's counters of batches are no part of what travels
            torch.testing.assert_close(tensor, reference[name], rtol=1e-6, atol=1e-9)


HOWS = [
    {"local_epochs": 2, "momentum": 0.9, "weight_decay": 0.01},
    {"local_epochs": 1, "partition": "dirichlet:0.5", "momentum": 0.0},
    {"local_steps": 5, "sample": 3, "server_lr": 0.5, "momentum": 0.0},
    {"local_epochs": 1, "partition": "dirichlet:0.5", "sample": 3, "average": "weighted", "momentum": 0.5},
]


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_it_is_federated_averaging(how):
    how = {"clients": 6, "rounds": 3, "batch_size": 4, "lr": 0.1, "seed": 1, **how}
    state = trained(how)
    assert "clients train" in state.notes[0]
    same(state, fedavg(how))


@hypothesis(deadline=None, max_examples=10)
@given(st.floats(0.2, 5), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99), st.sampled_from(["mlp", "lenet"]))
def test_ragged_clients_train_together_exactly_as_one_after_another(alpha, batch, epochs, seed, name):
    how = {"clients": 4, "rounds": 1, "batch_size": batch, "local_epochs": epochs, "lr": 0.1, "momentum": 0.5}
    settings = TrainSettings(**how, partition=f"dirichlet:{alpha}", seed=seed)
    pictures = Pictures(40)
    try:
        shards = partition.split(settings.partition, pictures.targets, 4, seed)
    except GradwireError:
        return  # this draw leaves a client without data, and says so
    ends = []
    paths = [stack(network(name), of(pictures.shape), path=path) for path in ("layered", "rowwise", "functional")]
    for chosen in (CohortPlan(), *(CohortPlan((path,), 3) for path in paths)):
        state = begin(settings, network(name))
        losses = loop.train_round(state, settings, pictures, shards, InProcess(Transcript(keep=0)), chosen)
        ends.append((losses, state.model.state_dict()))
    (loss, alone), *others = ends
    for again, together in others:
        assert again == pytest.approx(loss, rel=1e-6)
        for key, tensor in alone.items():
            torch.testing.assert_close(together[key], tensor, rtol=1e-6, atol=1e-9)


def test_one_local_step_is_a_gradient():
    how = {"clients": 3, "rounds": 4, "batch_size": 8, "lr": 0.2, "momentum": 0.0}
    same(trained({**how, "local_steps": 1}), trained(how).model.state_dict())


def test_batch_norm_trains_one_client_after_another_where_batches_are_ragged():
    how = {"clients": 3, "rounds": 1, "batch_size": 7, "lr": 0.1, "local_epochs": 1}
    ragged, even = trained(how, "norm"), trained({**how, "batch_size": 10}, "norm")
    assert "one after another" in ragged.notes[0]
    assert "not functional: padding changes" in ragged.notes[0]
    assert "as one batch" in even.notes[0]


def test_batch_norms_statistics_are_averaged_after_the_last_local_step():
    how = {"clients": 2, "rounds": 1, "batch_size": 10, "lr": 0.1, "local_epochs": 1, "momentum": 0.0}
    same(trained(how, "norm"), fedavg(how, "norm"))


@pytest.mark.parametrize("how", [{"local_epochs": 1}, {"local_steps": 3}, {}])
@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.05"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(scheme, how, tmp_path):
    how = {"scheme": scheme, "clients": 5, "sample": 2, "batch_size": 5, "partition": "dirichlet:1.0", **how}
    whole, first = trained({**how, "rounds": 5}), trained({**how, "rounds": 3})
    first.save(tmp_path / "checkpoint", TrainSettings(**how, rounds=3))
    second = begin(TrainSettings(**how, rounds=5), network())
    second.restore(tmp_path / "checkpoint", TrainSettings(**how, rounds=5))
    train(second, TrainSettings(**how, rounds=5), Pictures())
    assert (second.round, second.bytes_up) == (5, whole.bytes_up)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_state_of_clients_that_are_not_in_a_round_stays():
    settings = TrainSettings(scheme="topk:ratio=0.05", clients=5, sample=2, rounds=1, local_steps=1)
    state = begin(settings, network())
    before = {party: {n: t.clone() for n, t in own.items()} for party, own in state.private.items()}
    train(state, settings, Pictures())
    members = {f"client:{i}" for i in sampled(settings, 0)}
    assert len(members) == 2
    for party, own in state.private.items():
        kept = all(torch.equal(tensor, before[party][name]) for name, tensor in own.items())
        assert kept == (party not in members)


def test_a_rounds_clients_are_a_function_of_seed_and_round():
    settings = TrainSettings(clients=20, sample=4)
    rounds = [sampled(settings, round) for round in range(200)]
    assert rounds == [sampled(settings, round) for round in range(200)]
    assert rounds != [sampled(TrainSettings(clients=20, sample=4, seed=1), round) for round in range(200)]
    assert all(len(set(members)) == 4 and set(members) <= set(range(20)) for members in rounds)
    counts = torch.tensor([i for members in rounds for i in members]).bincount(minlength=20)
    assert counts.min() > 15  # 40 expected, standard deviation 5.7
    assert counts.max() < 65


@pytest.mark.parametrize("average", ["plain", "weighted"])
def test_secure_sums_of_local_work_among_a_sample(average):
    how = {"clients": 5, "sample": 3, "rounds": 1, "local_epochs": 1, "partition": "dirichlet:1.0", "momentum": 0.0}
    secure = trained({**how, "scheme": "sga", "average": average})
    settings, pictures = TrainSettings(**how), Pictures()
    shards = partition.split("dirichlet:1.0", pictures.targets, 5, 0)
    members = sampled(settings, 0)
    # Under a scheme that shows the server sums only, nobody tells how many examples it has: n_k·K/n is the weight.
    weights = [len(shards[i]) * 5 / 60 if average == "weighted" else 1.0 for i in members]
    alone = []
    for i in members:
        own = network()
        sgd = torch.optim.SGD(own.parameters(), settings.lr)
        for where in descents(settings, f"client:{i}", len(shards[i]), 0).plan:
            images, labels = pictures.batch(shards[i][where])
            sgd.zero_grad()
            cross_entropy(own(images), labels).backward()
            sgd.step()
        alone.append(own.state_dict())
    start = network().state_dict()
    for name, tensor in secure.model.state_dict().items():
        mean = sum(w * (own[name] - start[name]) for w, own in zip(weights, alone, strict=True)) / 3
        torch.testing.assert_close(tensor, start[name] + mean, rtol=1e-4, atol=1e-5)
    assert any("sees sums only" in note for note in secure.notes) == (average == "weighted")


def test_weights_are_told_only_where_they_are_needed():
    how = {"clients": 5, "rounds": 1, "local_steps": 1, "partition": "dirichlet:1.0", "average": "weighted"}

    def phases(**more):
        settings, transport = TrainSettings(**how, **more), InProcess(Transcript())
        train(begin(settings, network()), settings, Pictures(), transport)
        return {message.phase for message in transport.transcript.messages()}

    assert "weights" in phases(sample=3)
    assert "weights" not in phases()
    assert "weights" not in phases(sample=3, scheme="sga")


def planned(settings, model, pictures):
    shards = partition.split("iid", pictures.targets, settings.clients, 0)
    return loop.planned(begin(settings, model), settings, pictures, shards, InProcess())


def test_the_plan_depends_on_scheme_model_and_work():
    def chosen(clients=4, **how):
        return planned(TrainSettings(clients=clients, batch_size=5, **how), network(), Pictures())

    assert chosen(local_steps=2).stacks
    assert not chosen().stacks
    assert not chosen(clients=1, local_steps=2).stacks


@pytest.fixture
def threads():
    """Says how many threads there are; there are as many as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_network_that_keeps_a_core_busy_has_it_to_itself(threads):
    how = {"clients": 5, "rounds": 2, "batch_size": 4, "local_epochs": 1, "lr": 0.1, "partition": "dirichlet:1.0"}
    threads(2)
    state, again = trained(how, "busy"), trained(how, "busy")
    assert state.notes[0] == "clients train one at a time, on each of 2 cores, by the rowwise path"
    assert torch.get_num_threads() == 2
    assert all(torch.equal(p, q) for p, q in zip(state.model.parameters(), again.model.parameters(), strict=True))
    same(state, fedavg(how, "busy"))


def test_there_are_no_more_cores_than_clients_and_small_networks_share_them(threads):
    settings = TrainSettings(clients=4, local_steps=2)
    for count, name, stacks, size in ((3, "busy", 3, 1), (8, "busy", 4, 1), (3, "mlp", 1, 4), (3, "lenet", 1, 4)):
        threads(count)
        chosen = planned(settings, network(name).float(), Pictures())
        assert (len(chosen.stacks), chosen.size) == (stacks, size)


def test_what_clients_draw_does_not_depend_on_the_number_of_cores(threads):
    how = {"clients": 4, "rounds": 2, "batch_size": 5, "local_epochs": 1, "lr": 0.1}
    ends = []
    for count in (1, 2, 4):
        threads(count)
        ends.append(trained(how, "dropping"))
    for other in ends[1:]:
        same(ends[0], other.model.state_dict())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"clients": 10, "sample": 11}, "sample is 11; it must be from 1 to 10, for so many clients"),
        ({"sample": 0}, "sample is 0"),
        ({"local_steps": 0}, "local_steps is 0; it must be at least 1"),
        ({"local_epochs": -1}, "local_epochs is -1; it must be at least 1"),
        ({"local_epochs": 1, "local_steps": 1}, "exclude each other"),
        ({"local_steps": 1, "server_lr": 0.0}, "server_lr is 0.0; it must be positive"),
        ({"server_lr": 0.5}, "without local work there is one rate only"),
        ({"local_steps": 1, "nesterov": True}, "nesterov is not known to the clients' SGD"),
        ({"average": "median"}, "unknown average 'median'; known: plain, weighted"),
    ],
)
def test_settings_that_cannot_be(how, message):
    with pytest.raises(GradwireError, match=message):
        TrainSettings(**how)


@pytest.mark.parametrize(
    ("partition", "clients", "message"),
    [
        ("iid", 61, "60 examples cannot be divided among 61 clients"),
        ("shards:7", 10, "7 shards for each of 10 clients do not fit 60 examples"),
        ("dirichlet:0.01", 30, "leaves client .* without data"),
    ],
)
def test_partitions_that_do_not_fit(partition, clients, message):
    with pytest.raises(GradwireError, match=message):
        trained({"partition": partition, "clients": clients, "sample": 1, "rounds": 1, "local_steps": 1})
