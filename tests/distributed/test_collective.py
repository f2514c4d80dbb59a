"""The transport over torch.distributed, in real processes."""

import re
from importlib.metadata import version

import pytest
import torch

from gradwire import data, models
from gradwire.schemes import Layout, Round, parse
from gradwire.training import TrainSettings, begin, train
from gradwire.wire import InProcess, Send, Transcript, client, rendezvous
from gradwire.wire.rendezvous import agree
from gradwire.wire.transport import drive
from tests.distributed import workers
from tests.schemes.rounds import random_update

SCHEMES = (
    "none",
    "topk:ratio=0.01",
    "topk:ratio=0.01,error_feedback=false,per=model",
    "randomk:ratio=0.05",
    "powersgd:rank=2",
    "dgc:ratio=0.01,warmup_epochs=1,clip=1.0",
    "qsgd",
    "signsgd",
    "signsgd:error_feedback=true",
)
LEFT_OUT = "client:1 cannot be left out of a collective: "
ROUNDS = 50
pytestmark = pytest.mark.slow


def losses_of(spec, transport=None):
    dataset = data.load("digits", "train")
    settings = TrainSettings(
        scheme=spec, clients=2, rounds=ROUNDS, batch_size=16, lr=0.001 if spec == "signsgd" else 0.01
    )
    model = models.build("lenet", dataset.shape, dataset.outputs, dataset.mean, dataset.std, 0)
    state, losses = begin(settings, model), []
    train(state, settings, dataset, transport, lambda _, loss: losses.append(loss))
    return losses, state.bytes_up, state.bytes_down


def every_scheme(transport):
    return {spec: losses_of(spec, transport) for spec in SCHEMES}


def averaged(transport=None):
    """Federated averaging of clients with unlike amounts of data."""
    dataset = data.load("digits", "train")
    how = {"clients": 2, "rounds": 4, "local_epochs": 1, "average": "weighted", "partition": "dirichlet:1.0"}
    settings = TrainSettings(scheme="topk:ratio=0.1", **how)
    state, losses = begin(settings, models.build("mlp", dataset.shape, dataset.outputs, seed=0)), []
    train(state, settings, dataset, transport, lambda _, loss: losses.append(loss))
    return losses, state.bytes_up, state.bytes_down


def test_local_work_is_that_of_the_simulation(tmp_path):
    first, second = workers.run(averaged, tmp_path)
    assert first == second
    losses, *sent = averaged()
    assert first[0] == pytest.approx(losses, abs=1e-4)
    assert list(first[1:]) == sent


def test_losses_and_bytes_are_those_of_the_simulation(tmp_path):
    first, second = workers.run(every_scheme, tmp_path)
    assert first == second
    for spec in SCHEMES:
        losses, up, down = losses_of(spec)
        assert len(losses) == ROUNDS
        assert first[spec][0] == pytest.approx(losses, abs=1e-5), spec
        assert first[spec][1:] == (up, down), spec
        assert losses[-1] < losses[0]


def one_round(transport, spec):
    """The outcome of a round between as many clients as there are processes, and the transcript's sizes."""
    updates = [random_update(i) for i in range(len(transport.parties))]
    layout, scheme = Layout.of(updates[0]), parse(spec)
    context = Round(0, transport.parties, 0, layout)
    private = {party: scheme.private_state(layout, i) for i, party in enumerate(transport.parties)}
    local = transport.local(transport.parties) if hasattr(transport, "local") else transport.parties
    halves = {
        party: scheme.client(update, private[party], {}, context)
        for party, update in zip(transport.parties, updates, strict=True)
        if party in local
    }
    outcomes, _ = drive(transport, halves, scheme.server({}, context), 0)
    transcript = transport.transcript
    sizes = [transcript.bytes_up(party) for party in transport.parties]
    return outcomes[local[0]].aggregate, sizes, transcript.bytes_down()


def three_workers(transport):
    results = {}
    for spec in SCHEMES:
        transport.transcript = Transcript()
        results[spec] = one_round(transport, spec)
    return results


def test_three_workers_end_a_round_alike(tmp_path):
    first, *others = workers.run(three_workers, tmp_path, size=3)
    for spec in SCHEMES:
        simulated = InProcess()
        simulated.parties = tuple(client(i) for i in range(3))
        aggregate, up, down = one_round(simulated, spec)
        assert first[spec][1:] == (up, down)
        for name, tensor in aggregate.items():
            torch.testing.assert_close(first[spec][0][name], tensor)
            assert all(torch.equal(first[spec][0][name], other[spec][0][name]) for other in others)


def disagree(transport):
    agree(transport, {"lr": 0.1, "scheme": "none" if transport.leads else "topk:ratio=0.1"})


def test_workers_with_other_settings_are_refused_by_name(tmp_path):
    message = "worker client:1 has scheme=topk:ratio=0.1; worker client:0 has scheme=none"
    assert workers.run(disagree, tmp_path) == [message, message]


def another_version(transport):
    if not transport.leads:
        rendezvous.version = lambda package: "0.0.9"
    agree(transport, {})


def test_workers_of_another_version_are_refused_by_name(tmp_path):
    message = f"worker client:1 has gradwire=0.0.9; worker client:0 has gradwire={version('gradwire')}"
    assert workers.run(another_version, tmp_path) == [message, message]


def not_finite(transport, policy):
    """Five rounds; after the second, the second worker's weights are not numbers for one round."""
    settings = TrainSettings(clients=2, rounds=5, batch_size=8, on_nan=policy)
    dataset = data.load("digits", "train")
    state = begin(settings, models.build("mlp", dataset.shape, dataset.outputs, seed=0))
    first = next(state.model.parameters())
    kept = []

    def poison(state, _):
        kept.append(first.detach().clone())
        if not transport.leads and state.round == 2:
            first.data.fill_(float("nan"))
        if not transport.leads and state.round == 3:
            first.data.copy_(kept[-2])

    train(state, settings, dataset, transport, poison)
    return state.skipped, state.bytes_up, [p.detach().clone() for p in state.model.parameters()]


def test_a_gradient_that_is_not_finite_stops_all_workers(tmp_path):
    first, second = workers.run(not_finite, tmp_path, "stop")
    assert first == "round 2: the gradient of client:1 is not finite"
    assert re.fullmatch(r"gradient of '.*weight' is not finite in \d+ of \d+ entries", second)


def test_or_all_workers_skip_the_round_and_count_it(tmp_path):
    (skipped, up, mine), (others, _, theirs) = workers.run(not_finite, tmp_path, "skip")
    assert skipped == others == 1
    assert up > 0
    assert all(torch.equal(p, q) and p.isfinite().all() for p, q in zip(mine, theirs, strict=True))


def ask(value, mean=False):
    return (yield Send("ask", {"x": torch.full((3,), value)}, mean=mean))


def answer():
    uploads = yield None
    yield Send("ask", {"x": sum(tensors["x"] for tensors in uploads.values())})


def damaged(transport, how):
    if how == "corrupt" and not transport.leads:
        honest = transport._all_gather

        def flip(data, what):
            data[-1] ^= 1
            return honest(data, what)

        transport._all_gather = flip
    if how == "oversized":
        transport.limit = 100
    round = 1 if how == "late" and not transport.leads else 0
    drive(transport, {transport.party: ask(1.0)}, answer(), round)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "corrupt",
            LEFT_OUT + "message 'ask' of round 0 from client:1 to server is corrupted: its checksum does not match",
        ),
        ("oversized", r"'ask' of round 0: client:0 announces \d+ bytes; a message takes 1 to 100"),
        (
            "late",
            LEFT_OUT + "got 'ask' of round 1 from client:1 to server; one of round 0 from client:1 was due",
        ),
    ],
)
def test_messages_that_cannot_be_are_refused(tmp_path, how, message):
    first, _ = workers.run(damaged, tmp_path, how)
    assert isinstance(first, str)
    assert re.fullmatch(message, first)
