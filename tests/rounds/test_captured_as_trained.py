"""What is attacked is what is sent: a captured round's messages are those of the same round in training."""

import copy
import warnings

import pytest
import torch
from torch import nn

from gradwire import capture, data
from gradwire.data import partition
from gradwire.schemes import SCHEMES, parse
from gradwire.secure.kdf import InsecureWarning, insecure_seed
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import batch_indices
from gradwire.wire import InProcess, Need, Transcript, client

PARAMETERS = {
    "topk": ":ratio=0.1",
    "randomk": ":ratio=0.1",
    "dgc": ":ratio=0.1",
    "noise": ":std=0.01",
    "sparsify": ":drop=0.5",
    "ssga": ":compression=20",
    "ssga-dgc": ":compression=20",
    "autoencoder": ":warmup_rounds=1,warmup_iterations=1,passes=1",
}
SPECS = (
    *(f"{name}{PARAMETERS.get(name, '')}" for name in SCHEMES),
    "signsgd:error_feedback=true",
    "sga:threshold=2,colluders=0",
    "ssga:compression=20,union=anonymous",
    "powersgd:rank=2+sga",
)
BASE = {"clients": 3, "rounds": 2, "batch_size": 4, "lr": 0.1, "momentum": 0.0, "seed": 5}
CASES = [
    (spec, local)
    for spec in SPECS
    for local in (False, True)
    if (Need.SINGLE_GRADIENT if local else Need.LOCAL_UPDATE) not in parse(spec).needs
    # A captured batch is a pass of its own, in which a tree begins anew; a training's is somewhere in a pass.
    and (spec, local) != ("dpftrl", False)
]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.mark.parametrize(("spec", "local"), CASES)
def test_messages_are_equal_byte_for_byte(spec, local):
    work = {"local_steps": 2} if local else {}
    settings = TrainSettings(scheme=spec, **BASE, **work)
    digits = data.load("digits", "train", limit=36)
    state = begin(settings, network())
    before = {}

    def keep(state, _):
        if state.round == 1:
            before.update(model=copy.deepcopy(state.model), public=dict(state.public), private=dict(state.private))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureWarning)
        first = TrainSettings(scheme=spec, **{**BASE, "rounds": 1}, **work)
        train(state, first, digits)
        keep(state, 0.0)
        transport = InProcess(Transcript())
        with insecure_seed(1):
            train(state, settings, digits, transport)
        shards = partition.split(settings.partition, digits.targets, 3, settings.seed)
        if not local:
            drawn = (batch_indices(shard, client(i), 1, 4, settings.seed) for i, shard in enumerate(shards))
            shards = list(drawn)
        held = [digits.batch(shard) for shard in shards]
        with insecure_seed(1):
            view = capture(
                before["model"],
                *held[0],
                spec,
                fellows=held[1:],
                private=before["private"],
                public=before["public"],
                round=1,
                epoch=int(settings.passes(1, len(digits))),
                seed=settings.seed,
                **({"local_steps": 2, "local_batch": 4, "lr": settings.lr} if local else {}),
            )
    sent = [bytes(message.encode()) for message in transport.transcript.messages(1)]
    assert [bytes(message.encode()) for message in view.messages] == sent
    assert len(sent) > 3


def test_weighted_means_samples_and_dropouts_are_captured_too():
    digits = data.load("digits", "train", limit=36)
    model = network()
    held = [digits.batch(range(4 * i, 4 * i + 4)) for i in range(3)]
    names = ("client:7", "client:2", "client:5")
    view = capture(model, *held[0], "topk:ratio=0.1", fellows=held[1:], parties=names, weights=(1, 2, 3))
    assert view.victim == "client:7"
    assert view.weight == pytest.approx(0.5)
    assert {m.phase for m in view.messages} == {"entries", "weights"}
    plain = capture(model, *held[0], "topk:ratio=0.1")
    values = [next(m for m in v.messages if m.sender == v.victim).tensors["values"] for v in (view, plain)]
    torch.testing.assert_close(values[0], 0.5 * values[1])
    fewer = capture(model, *held[0], fellows=held[1:], drop={"client:1": "update"})
    assert {m.sender for m in fewer.messages} == {"client:0", "client:2", "server"}
