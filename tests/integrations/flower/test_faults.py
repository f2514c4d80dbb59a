"""Nodes that fail, are late, come twice or send what they must not: named, left out, and the round goes on."""

import logging
import random
import re
from dataclasses import replace

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import Error
from flwr.app import Message as FlowerMessage
from flwr.serverapp.strategy import FedAvg

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod, run
from gradwire.integrations.flower.questions import Questions
from gradwire.rounds import ClientRound
from gradwire.schemes.halves import mean
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome
from gradwire.wire import Deal, Message, Send
from tests.integrations.flower.local import ArrayRecord, LocalGrid, RecordDict, app, ask, carried, parts, put
from tests.integrations.flower.test_flower import ALL, NODES, change, federation, start


@pytest.fixture(autouse=True)
def _sampling():
    """Flower's strategies draw the order of clients from Python's own generator."""
    random.seed(0)


SPECS = ("none", "topk:ratio=0.1", "powersgd:rank=2", "qsgd")


def play(spec, twice=lambda number: False, **how):
    random.seed(0)
    inner, grid = federation(spec, **how)
    inner.twice = twice
    result = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=3)
    return inner, grid, result.arrays.to_torch_state_dict()


@pytest.mark.parametrize("spec", SPECS)
def test_a_message_that_is_delivered_twice_gets_the_same_answer(spec):
    inner, grid, plain = play(spec)
    # The context of a first delivery is kept, so that its answer alone is lost.
    for number in range(len(inner.asked)):
        again, other, arrays = play(spec, lambda n, number=number: n == number)
        assert all(torch.equal(arrays[name], plain[name]) for name in plain), number
        assert all(context.state["trained"]["times"] == 3 for context in again.contexts.values())
        assert other.transcript.bytes_up() == grid.transcript.bytes_up()


def test_a_secret_of_the_systems_is_drawn_once():
    inner, grid = federation("noise:std=1", secret=False)
    inner.twice = lambda number: True
    run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=2)
    assert not grid.refused


@pytest.mark.parametrize("spec", SPECS)
def test_late_messages_are_one_line_and_change_nothing(spec):
    inner, _, _ = play(spec)
    node = 70
    asked = [message for message in inner.asked if message.metadata.dst_node_id == node]
    before = inner.contexts[node].state
    kept = carried(inner.answer(asked[-1])).content
    for message in asked[:-1]:
        reply = inner.answer(message)
        assert re.fullmatch(r"(round \d begins late, by|turn) [^\n]* this client stands at \d+", reply.error.reason)
        assert inner.contexts[node].state == before
    assert inner.answer(asked[-1]).content == kept


@pytest.mark.parametrize("number", range(4))
def test_a_corrupted_message_is_one_line_and_changes_nothing(number):
    inner, _, _ = play("powersgd:rank=2")
    asked = [m for m in inner.asked if m.metadata.dst_node_id == 70][number]
    fresh, _ = federation("powersgd:rank=2")
    for message in [m for m in inner.asked if m.metadata.dst_node_id == 70][:number]:
        assert not fresh.answer(message).has_error()
    before = fresh.contexts[70].state
    asked.content["gradwire"]
    wrong = carried(asked)
    for name, data in parts(asked).items():
        put(wrong, name, data[:-1] + bytes([data[-1] ^ 1]))
    if not parts(asked):
        wrong.content["gradwire"].pop("turn")
    reply = fresh.answer(wrong)
    assert reply.error.reason.count("\n") == 0
    assert fresh.contexts[70].state == before
    assert not fresh.answer(asked).has_error()


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
    alone._parties = {11: "client:1", 42: "client:2"}
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


def test_replies_that_are_late_doubled_or_unasked_are_passed_over(caplog):
    kept = []

    def twist(reply, number):
        kept.append(carried(reply))
        stranger = carried(reply)
        stranger.metadata.__dict__["_src_node_id"] = 99
        return [stranger, carried(kept[0]), reply, reply]

    _, _, plain = play("topk:ratio=0.1")
    random.seed(0)
    inner, grid = federation("topk:ratio=0.1")
    inner.twist = twist
    with caplog.at_level(logging.WARNING, "gradwire"):
        arrays = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=3).arrays.to_torch_state_dict()
    assert all(torch.equal(arrays[name], plain[name]) for name in plain)
    assert "passed over a reply of node 99: it is of a node that was not asked" in caplog.text
    assert "passed over a reply of node 70: it is a second one" in caplog.text
    assert re.search(r"round 2: passed over a reply of node \d+: it is late", caplog.text)


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


@pytest.mark.parametrize("by", [-1, 1, 5])
def test_a_message_out_of_turn_is_refused(by):
    inner, grid = federation("powersgd:rank=2", examples=20.0)
    inner.twist = lambda reply, number: [reply] if number < 6 else []
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    asked = next(m for m in inner.asked[3:6] if m.metadata.dst_node_id == 70)
    fresh, _ = federation("powersgd:rank=2")
    assert not fresh.answer(inner.asked[0]).has_error()
    wrong = carried(asked)
    wrong.content["gradwire"]["turn"] += by
    before = fresh.contexts[70].state
    if by > 0:
        assert "is not due: this client stands at 1" in fresh.answer(wrong).error.reason
        assert fresh.contexts[70].state == before
    assert not fresh.answer(asked).has_error()
    assert "session" in fresh.contexts[70].state["gradwire.held"]


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


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (lambda a: {name: t for name, t in a.items() if name != "w"}, "array 'w' is None; ((12, 20), torch.float32)"),
        (lambda a: a | {"b": a["b"][:1]}, "array 'b' is ((1,), torch.float32); ((7,), torch.float32)"),
        (lambda a: a | {"seen": a["seen"] + 0.5}, "array 'seen' is ((), torch.float32); ((), torch.int64)"),
        (lambda a: a | {"x": a["b"]}, "array 'x' is ((7,), torch.float32); None"),
        (lambda a: a | {"w": a["w"] * torch.nan}, "gradient of 'w' is not finite in 240 of 240 entries"),
    ],
)
def test_what_training_must_not_make_of_the_arrays(wrong, what):
    _, grid = federation("none", train=lambda node, round, arrays: wrong(arrays))
    (reply,) = grid.send_and_receive([ask(start(), 70)])
    assert what in reply.error.reason


def test_a_frozen_array_stays():
    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = torch.nn.Parameter(torch.zeros(12, 20)), torch.nn.Parameter(torch.ones(7), False)

    model = Half()
    _, grid = federation("none", parameters=None, model=model, train=lambda n, r, a: {k: t + 1 for k, t in a.items()})
    (reply,) = grid.send_and_receive([ask(model.state_dict(), 70)])
    assert reply.error.reason == "training changed 'b', which is frozen in the server's model"


@pytest.mark.parametrize("change", [{"b": torch.ones(1)}, {"b": None}, {"more": torch.ones(1)}])
def test_a_layout_that_changes_within_a_run_is_refused(change):
    _, grid = federation("none")
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    arrays = {name: t for name, t in (start() | change).items() if t is not None}
    with pytest.raises(GradwireError, match=r"the strategy's array '(b|more)' is .* was due: layouts stay in a run"):
        grid.send_and_receive([ask(arrays, node) for node in NODES])


def test_a_client_goes_along_with_its_own_scheme_and_parameters_only():
    inner = LocalGrid({70: app("qsgd", 70, change)})
    (reply,) = inner.send_and_receive([ask(start(), 70)])
    assert "the server asks for plain arrays; this client sends only qsgd" in reply.error.reason
    (reply,) = SchemeGrid(inner, "none", ("w",)).send_and_receive([ask(start(), 70)])
    assert "the server runs scheme 'none'; this client's is 'qsgd'" in reply.error.reason
    strict = SchemeMod("none", ("w", "b"))
    inner, grid = federation("none", parameters=("b",))
    made = inner.asked
    list(grid.send_and_receive([ask(start(), 70)]))
    with pytest.raises(GradwireError, match=r"names parameters \['b'\]; this client's are \('w', 'b'\)"):
        strict(made[0], inner.contexts[11], lambda message, context: pytest.fail("it was trained"))


def test_what_a_plain_client_sends_is_not_handed_on():
    inner, grid = federation("none")
    inner.apps[70] = lambda message, context: app(None, 70, change)(stripped(message), context)
    replies = list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    assert [reply.metadata.src_node_id for reply in replies if reply.has_error()] == [70]
    assert grid.refused["client:0"] == "it sent no record of gradwire's"


def stripped(message):
    message.content = RecordDict({name: each for name, each in message.content.items() if "gradwire" not in name})
    return message


def test_two_grids_one_after_the_other_do_not_mix():
    inner, grid = federation("topk:ratio=0.1")
    first = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=3).arrays.to_torch_state_dict()
    random.seed(0)
    again = SchemeGrid(inner, "topk:ratio=0.1", ("w", "b"))
    again._parties = dict(grid._parties)
    second = run(FedAvg(**ALL), again, ArrayRecord(start()), num_rounds=3).arrays.to_torch_state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_different_arrays_for_different_clients_are_refused():
    _, grid = federation("none")
    messages = [ask(start() | {"b": torch.full((7,), float(node))}, node) for node in NODES]
    with pytest.raises(GradwireError, match="the strategy sends clients different arrays"):
        grid.send_and_receive(messages)


@pytest.mark.parametrize(
    ("arrays", "names", "what"),
    [
        (start(), ("weights",), "parameter 'weights' is not among the arrays w, b, mean, seen"),
        ({"seen": torch.tensor(0)}, None, "none of the arrays seen is a parameter"),
        (start(), ("w", "seen"), "update of 'seen' is of torch.int64; it must be a dense tensor of real numbers"),
        ({"w": torch.ones(2), "z": torch.ones(2, dtype=torch.complex64)}, ("w",), "array 'z' is complex"),
    ],
)
def test_arrays_that_no_scheme_carries(arrays, names, what):
    _, grid = federation("none", parameters=names)
    with pytest.raises(GradwireError, match=what):
        grid.send_and_receive([ask(arrays, 70)])


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
