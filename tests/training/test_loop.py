import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradwire import data, models
from gradwire.data import image_dataset
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, evaluate, train
from gradwire.training.batches import batch_indices


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


def fresh(dataset, name="convnet"):
    return models.build(name, dataset.shape, dataset.outputs, dataset.mean, dataset.std, seed=0)


def test_one_client_without_scheme_is_torch_sgd(digits):
    settings = TrainSettings(clients=1, rounds=4, batch_size=16, lr=0.1, momentum=0.9, weight_decay=0.01)
    model = fresh(digits)
    reference = copy.deepcopy(model)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    train(begin(settings, model), settings, digits)
    shard = data.partition.split("iid", digits.targets, 1, 0)[0]
    for round in range(4):
        images, labels = digits.batch(batch_indices(shard, "client:0", round, 16, 0))
        optimizer.zero_grad()
        cross_entropy(reference(images), labels).backward()
        optimizer.step()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_clients_without_scheme_are_one_large_batch(digits):
    several = TrainSettings(clients=4, rounds=1, batch_size=8)
    model = fresh(digits)
    reference = copy.deepcopy(model)
    train(begin(several, model), several, digits)
    shards = data.partition.split("iid", digits.targets, 4, 0)
    chosen = torch.cat([batch_indices(shard, f"client:{i}", 0, 8, 0) for i, shard in enumerate(shards)])
    images, labels = digits.batch(chosen)
    cross_entropy(reference(images), labels).backward()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q - several.lr * q.grad)


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=2", "topk:ratio=0.05", "topk:match_rank=2,per=model"])
def test_learns(digits, scheme):
    settings = TrainSettings(scheme=scheme, rounds=100)
    model = fresh(digits)
    train(begin(settings, model), settings, digits)
    assert evaluate(model, data.load("digits", "test"))["accuracy"] > 0.85


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=2", "topk:ratio=0.05"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(digits, scheme, tmp_path):
    def settings(rounds):
        return TrainSettings(scheme=scheme, rounds=rounds, clients=3)

    whole = begin(settings(8), fresh(digits))
    train(whole, settings(8), digits)
    first = begin(settings(5), fresh(digits))
    train(first, settings(5), digits)
    first.save(tmp_path / "checkpoint.safetensors", settings(5))
    second = begin(settings(8), fresh(digits))
    second.restore(tmp_path / "checkpoint.safetensors", settings(8))
    train(second, settings(8), digits)
    assert (second.round, second.bytes_up, second.bytes_down) == (8, whole.bytes_up, whole.bytes_down)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_batch_norms_statistics_travel_and_are_averaged():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 8, 8, generator=generator)
    dataset = image_dataset(
        "noise", "train", images, torch.randint(10, (64,), generator=generator), tuple("0123456789")
    )
    settings = TrainSettings(clients=2, rounds=1, batch_size=8)
    state = begin(settings, models.build("resnet20", (3, 8, 8), 10, seed=0))
    before = {name: b.clone() for name, b in state.model.named_buffers()}
    reference = [copy.deepcopy(state.model) for _ in range(2)]
    train(state, settings, dataset)
    shards = data.partition.split("iid", dataset.targets, 2, 0)
    for i, (model, shard) in enumerate(zip(reference, shards, strict=True)):
        model(dataset.batch(batch_indices(shard, f"client:{i}", 0, 8, 0))[0])
    ours = dict(state.model.named_buffers())
    theirs = [dict(model.named_buffers()) for model in reference]
    averaged = [name for name in ours if name.endswith("running_mean")]
    assert averaged
    for name in averaged:
        assert not torch.equal(ours[name], before[name])
        torch.testing.assert_close(ours[name], (theirs[0][name] + theirs[1][name]) / 2)


def test_every_example_once_an_epoch():
    shard = torch.arange(100, 140)
    seen = torch.cat([batch_indices(shard, "client:0", round, 8, 0) for round in range(5)])
    assert torch.equal(seen.sort().values, shard)
    again = torch.cat([batch_indices(shard, "client:0", round, 8, 0) for round in range(5, 10)])
    assert torch.equal(again.sort().values, shard)
    assert not torch.equal(seen, again)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clients": 0}, "clients is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be positive"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(GradwireError, match=message):
        TrainSettings(**settings)


def test_a_checkpoint_of_another_run_is_refused(digits, tmp_path):
    settings = TrainSettings(rounds=1, clients=2)
    path = tmp_path / "checkpoint.safetensors"
    state = begin(settings, fresh(digits))
    with pytest.raises(GradwireError, match="there is no checkpoint"):
        state.restore(path, settings)
    state.save(path, settings)
    with pytest.raises(GradwireError, match="has clients=2; this run has clients=3"):
        state.restore(path, TrainSettings(rounds=1, clients=3))
    with pytest.raises(GradwireError, match="is of another model"):
        begin(settings, fresh(digits, "mlp")).restore(path, settings)
    path.write_bytes(b"nonsense")
    with pytest.raises(GradwireError, match="is not a checkpoint"):
        state.restore(path, settings)
