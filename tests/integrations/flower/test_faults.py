"""Nodes that fail, are silent or send what they must not: named, left out, and the round goes on."""

import logging
from dataclasses import replace

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import Error
from flwr.app import Message as FlowerMessage

from gradwire.integrations.flower.questions import Questions
from gradwire.rounds import ClientRound
from gradwire.schemes.halves import mean
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome
from gradwire.wire import Deal, Message, Send
from tests.integrations.flower.local import RecordDict, app, ask, carried, parts, put
from tests.integrations.flower.test_deliveries import play
from tests.integrations.flower.test_flower import NODES, change, federation, start


def spoiled(part, name, make):
    """A twist: in client 70's first message, the tensor `name` of `part` is made another."""

    def twist(reply, number):
        record = parts(reply)
        if reply.metadata.src_node_id == 70 and part in record:
            if make == "corrupted":
                put(reply, part, record[part][:-1] + bytes([record[part][-1] ^ 1]))
                return [reply]
            message = Message.decode(record[part])
            tensors = dict(message.tensors)
            found = tensors.pop(name)
            tensors |= make(found)
            put(reply, part, bytes(replace(message, tensors=tensors).encode()))
        return [reply]

    return twist


BAD = {
    "corrupted": "corrupted",
    "not finite": lambda t: {"NAME": torch.full_like(t, torch.nan)},
    "another shape": lambda t: {"NAME": torch.cat([t.reshape(-1), t.reshape(-1)])},
    "broadcastable": lambda t: {"NAME": t.reshape(1, *t.shape)},
    "missing": lambda t: {},
    "extra": lambda t: {"NAME": t, "more": t},
    "another dtype": lambda t: {"NAME": t.to(torch.int32)},
}
PARTS = [
    ("none", "message", "dense"),
    ("topk:ratio=0.1", "message", "values"),
    ("powersgd:rank=2", "message", None),
    ("qsgd", "message", "norms"),
    ("none", "weights", "weight"),
    ("none", "buffers", "mean"),
]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(("spec", "part", "name"), PARTS)
def test_a_client_that_sends_what_it_must_not_is_named_and_left_out(spec, part, name, kind):
    if spec.startswith("powersgd"):
        inner, _, _ = play(spec)
        sent = next(parts(m) for m in inner.replied if "message" in parts(m))
        name = next(iter(Message.decode(sent["message"]).tensors))
    how = BAD[kind]
    make = how if how == "corrupted" else lambda t: {name if n == "NAME" else n: v for n, v in how(t).items()}
    inner, grid = federation(spec, examples=20.0)
    inner.twist = spoiled(part, name, make)
    replies = list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    assert list(grid.refused) == ["client:0"]
    (error,) = [reply for reply in replies if reply.has_error()]
    assert error.metadata.src_node_id == 70
    assert error.error.reason.count("\n") == 0
    _others, alone = federation(spec, nodes={11: 4, 42: 26}, examples=20.0)
    alone.members.parties = {11: "client:1", 42: "client:2"}
    expected = list(alone.send_and_receive([ask(start(), node) for node in (11, 42)]))
    got = [reply.content["arrays"].to_torch_state_dict() for reply in replies if not reply.has_error()]
    for name, tensor in expected[0].content["arrays"].to_torch_state_dict().items():
        torch.testing.assert_close(got[0][name], tensor, atol=1e-5, rtol=1e-5)
    inner.twist = lambda reply, number: [reply]
    assert not any(r.has_error() for r in grid.send_and_receive([ask(start(), node, 2) for node in NODES]))


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_a_weight_that_is_not_positive_is_refused(value):
    inner, grid = federation("none")
    inner.twist = spoiled("weights", "weight", lambda t: {"weight": torch.tensor([value])})
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    assert f"the weight is {value}; it must be positive" in grid.refused["client:0"]


@pytest.mark.parametrize("trip", range(4))
def test_a_node_that_dies_in_any_phase_is_one_failure_and_rejoins(trip):
    """Trips of PowerSGD's first round: examples, P, Q, the last reply."""
    inner, grid = federation("powersgd:rank=2")
    inner.twist = lambda reply, number: [] if number == 3 * trip else [reply]
    replies = list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    done = [reply.metadata.src_node_id for reply in replies if not reply.has_error()]
    failed = [reply.metadata.src_node_id for reply in replies if reply.has_error()]
    # After its last message a client is in the mean; one that never answered is silent to the strategy, too.
    assert (done, failed) == {0: ([11, 42], []), 3: ([70, 11, 42], [])}.get(trip, ([11, 42], [70]))
    inner.twist = lambda reply, number: [reply]
    arrays = next(reply for reply in replies if not reply.has_error()).content["arrays"].to_torch_state_dict()
    assert not any(reply.has_error() for reply in grid.send_and_receive([ask(arrays, node, 2) for node in NODES]))


def killed(message):
    return carried(FlowerMessage(Error(8, "killed"), reply_to=message))


def residual(inner):
    brought = ClientRound.load(inner.contexts[70].state["gradwire.held"]["session"].data).brought
    return torch.cat([tensor.flatten() for tensor in brought.private.values()])


def test_without_its_last_reply_a_client_goes_on_as_before_the_round(caplog):
    inner, grid = federation("powersgd:rank=2", examples=20.0)
    answer, seen = inner.answer, []
    for round in (1, 2):
        inner.answer = lambda m, round=round: killed(m) if round == 2 and len(inner.asked) == 16 else answer(m)
        assert not any(r.has_error() for r in grid.send_and_receive([ask(start(), node, round) for node in NODES]))
    before = residual(inner)
    assert before.any()
    inner.answer = answer
    inner.twist = lambda reply, number: (seen.append(residual(inner)) if number == 18 else None) or [reply]
    with caplog.at_level(logging.WARNING, "gradwire"):
        assert not any(r.has_error() for r in grid.send_and_receive([ask(start(), node, 3) for node in NODES]))
    assert "round 1 ended without its last reply; this client goes on as before it" in caplog.text
    assert torch.equal(seen[0], before)


def test_what_comes_beside_a_message_is_what_it_is_named():
    def swap(reply, number):
        if reply.metadata.src_node_id == 70:
            put(reply, "weights", parts(reply)["buffers"])
        return [reply]

    inner, grid = federation("none", examples=20.0)
    inner.twist = swap
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    assert grid.refused == {"client:0": "got 'buffers' of round 0 from client:0 to server as 'weights'"}


def test_all_clients_lost_is_a_round_lost():
    inner, grid = federation("none", examples=20.0)
    inner.twist = spoiled("message", "dense", "corrupted")
    (reply,) = grid.send_and_receive([ask(start(), 70)])
    assert "corrupted" in reply.error.reason
    inner.silent = set(NODES)
    assert list(grid.send_and_receive([ask(start(), 70)])) == []
    inner.silent, inner.twist = set(), lambda reply, number: [reply]
    assert grid.round == 2
    assert not next(iter(grid.send_and_receive([ask(start(), 70)]))).has_error()


def test_a_failing_training_trains_again():
    calls = []

    def train(node, round, arrays):
        calls.append(node)
        if len(calls) == 1:
            raise RuntimeError("no disk")
        return change(node, round, arrays)

    inner, grid = federation("none", train=train)
    (reply,) = grid.send_and_receive([ask(start(), 70)])
    assert reply.error.reason == "no disk"
    assert not inner.answer(inner.asked[0]).has_error()


def test_what_a_plain_client_sends_is_not_handed_on():
    inner, grid = federation("none")
    inner.apps[70] = lambda message, context: app(None, 70, change)(stripped(message), context)
    replies = list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    assert [reply.metadata.src_node_id for reply in replies if reply.has_error()] == [70]
    assert grid.refused["client:0"] == "it sent no record of gradwire's"


def stripped(message):
    message.content = RecordDict({name: each for name, each in message.content.items() if "gradwire" not in name})
    return message


def test_a_reply_of_its_own_reaches_each_client(monkeypatch):
    def client(self, update, private, public, round):
        reply = yield Send("own", {"dense": round.layout.flatten(update)})
        again = yield Send("update", {"dense": reply["dense"]})
        return Outcome(round.layout.unflatten(again["dense"]), public, private)

    def server(self, public, round):
        uploads = yield None
        dealt = {party: {"dense": (2 + i) * sent["dense"]} for i, (party, sent) in enumerate(uploads.items())}
        average = mean((yield Deal("own", dealt)))
        yield Send("update", average)
        return Outcome(round.layout.unflatten(average["dense"]), public, {})

    monkeypatch.setattr(PlainSGD, "client", client)
    monkeypatch.setattr(PlainSGD, "server", server)
    _, grid = federation("none", weighted_by=None)
    (reply, *_) = grid.send_and_receive([ask(start(), node) for node in NODES])
    moved = [change(node, 1, start())["w"] for node in NODES]
    due = sum((2 + i) * each for i, each in enumerate(moved)) / 3
    torch.testing.assert_close(reply.content["arrays"].to_torch_state_dict()["w"], due)


def test_a_silent_client_leaves_time_for_the_questions_that_follow(monkeypatch):
    """With a deadline, each question gets half of the time; the last one known of gets all that is left."""
    _inner, grid = federation("powersgd:rank=2")
    waited, patience = [], Questions._patience
    monkeypatch.setattr(Questions, "_patience", lambda *which: waited.append(patience(*which)) or waited[-1])
    for round in (1, 2):
        list(grid.send_and_receive([ask(start(), node, round) for node in NODES], timeout=800.0))
    # Here no answer takes any time.
    assert waited == [400] * 7
    grid._questions = 3
    waited.clear()
    list(grid.send_and_receive([ask(start(), node, 3) for node in NODES], timeout=800.0))
    assert waited == [400, 400, 800]
