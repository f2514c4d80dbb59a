"""Schemes with a say in training, in the round loop: resumed, sampled, and what is on no difference of parameters."""

import pytest
import torch

from gradwire import data, ddp_hook, models
from gradwire.errors import GradwireError
from gradwire.schemes import SCHEMES, parse
from gradwire.training import TrainSettings, begin, evaluate, train

AUTOENCODER = "autoencoder:warmup_rounds=2,warmup_iterations=1,passes=1"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


def fresh(dataset, name="convnet"):
    return models.build(name, dataset.shape, dataset.outputs, dataset.mean, dataset.std, seed=0)


@pytest.mark.parametrize(
    # What an autoencoder learns in a round takes the longer, the more parameters there are.
    ("scheme", "model"),
    [("dpsgd", "convnet"), ("precode:bottleneck=8", "convnet"), (AUTOENCODER, "mlp:hidden=8")],
)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(digits, scheme, model, tmp_path):
    def settings(rounds):
        return TrainSettings(scheme=scheme, rounds=rounds, clients=3, sample=2, local_steps=1, batch_size=8)

    whole = begin(settings(4), fresh(digits, model))
    train(whole, settings(4), digits)
    first = begin(settings(3), fresh(digits, model))
    train(first, settings(3), digits)
    first.save(tmp_path / "checkpoint.safetensors", settings(3))
    second = begin(settings(4), fresh(digits, model))
    second.restore(tmp_path / "checkpoint.safetensors", settings(4))
    train(second, settings(4), digits)
    assert (second.round, second.bytes_up, second.bytes_down) == (4, whole.bytes_up, whole.bytes_down)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("scheme", ["dpsgd:clip=5,noise=0.05", "precode:bottleneck=16"])
def test_learns(digits, scheme):
    settings = TrainSettings(scheme=scheme, clients=2, rounds=60, lr=0.1)
    state = begin(settings, fresh(digits))
    train(state, settings, digits)
    assert evaluate(state.model, data.load("digits", "test"))["accuracy"] > 0.8


LOCAL = {
    "none": "none",
    "topk": "topk:ratio=0.1",
    "randomk": "randomk:ratio=0.5",
    "powersgd": "powersgd:rank=2",
    "lqsgd": "lqsgd:rank=2",
    "half": "half",
    "dgc": "single gradients",
    "qsgd": "qsgd:bits=6",
    "signsgd": "signsgd",
    "noise": "noise:std=0.001",
    "sparsify": "sparsify:drop=0.5",
    "dpsgd": "dpsgd:clip=5,noise=0.01",
    "dpftrl": "dpftrl:clip=5,noise=0.01",
    "dpfedavg": "dpfedavg:clip=5,noise=0.001",
    "autoencoder": AUTOENCODER,
    "precode": "precode",
    "sga": "sga",
    "ssga": "ssga:compression=4",
    "ssga-dgc": "single gradients",
}
"""What becomes of each scheme under local work: a spec that works, or the reason why none does."""


def test_every_scheme_is_tried_under_local_work():
    assert LOCAL.keys() == SCHEMES.keys()


@pytest.mark.parametrize("name", LOCAL)
def test_differences_of_parameters_go_through_or_are_refused_with_the_reason(digits, name):
    settings = TrainSettings(
        scheme=LOCAL[name] if name in LOCAL[name] else name,
        clients=3,
        rounds=6,
        local_steps=2,
        batch_size=16,
        lr=0.05,
        server_lr=0.01 if name == "signsgd" else 1.0,
    )
    if name not in LOCAL[name]:
        with pytest.raises(GradwireError, match=f"scheme '{name}' needs {LOCAL[name]}"):
            begin(settings, fresh(digits))
        return
    state = begin(settings, fresh(digits))
    before = [p.detach().clone() for p in state.model.parameters()]
    loss = evaluate(state.model, digits)["loss"]
    train(state, settings, digits)
    moved = [not torch.equal(p, q) for p, q in zip(state.model.parameters(), before, strict=True)]
    assert all(moved)
    assert state.skipped == 0
    # An autoencoder that was hardly trained ruins the model; all others leave it one that learns.
    assert name == "autoencoder" or evaluate(state.model, digits)["loss"] < loss


@pytest.mark.parametrize("scheme", ["dpsgd:clip=1,noise=0.5", "precode:bottleneck=8"])
def test_what_clients_do_goes_into_a_secure_sum_as_well(digits, scheme):
    reached = []
    for spec in (scheme, f"{scheme}+sga:bits=32,max=10"):
        settings = TrainSettings(scheme=spec, clients=3, rounds=2, local_steps=2, batch_size=16, lr=0.05)
        state = begin(settings, fresh(digits))
        train(state, settings, digits)
        reached.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
    torch.testing.assert_close(reached[1], reached[0], atol=1e-5, rtol=1e-4)
    assert scheme.startswith("precode") or "under replace of one example" in parse(spec).notes(state.private)[0]


def test_a_ddp_hook_refuses_what_it_cannot_do(digits):
    network = fresh(digits)
    with pytest.raises(GradwireError, match="'dpsgd' needs a hand in each step of a client's training; a DDP hook"):
        ddp_hook("dpsgd", network)
    with pytest.raises(GradwireError, match="precode is for another network than the one it was given"):
        ddp_hook("precode", network)
    assert ddp_hook("precode", parse("precode").adapt(network, 0))


def test_gradients_are_not_what_an_autoencoder_sends(digits):
    settings = TrainSettings(scheme=AUTOENCODER, clients=2, rounds=1)
    with pytest.raises(GradwireError, match="needs what local steps make of the parameters, not a gradient"):
        begin(settings, fresh(digits))
    weighted = TrainSettings(scheme=AUTOENCODER, clients=2, rounds=3, local_steps=1, average="weighted")
    with pytest.raises(GradwireError, match="needs updates that count alike: average plain"):
        begin(weighted, fresh(digits))


def test_a_client_that_cannot_be_read_is_named_in_the_runs_notes(digits):
    settings = TrainSettings(scheme=AUTOENCODER, clients=2, rounds=3, local_steps=1, batch_size=8)
    state = begin(settings, fresh(digits))

    def forget(state, loss):
        if state.round == 2:
            state.public = {name: tensor for name, tensor in state.public.items() if "client:1" not in name}

    train(state, settings, digits, after_round=forget)
    assert [note for note in state.notes if "left out" in note] == [
        "round 2: a client was left out: autoencoder: client:1 sent a code and never a decoder"
    ]
