"""Messages that come twice, late, corrupted or out of turn: one line, and nothing is lost or mixed."""

import logging
import random
import re

import pytest

pytest.importorskip("flwr")

import torch
from flwr.serverapp.strategy import FedAvg

from gradwire.integrations.flower import SchemeGrid, run
from tests.integrations.flower.local import ArrayRecord, ask, carried, parts, put
from tests.integrations.flower.test_flower import ALL, NODES, federation, start

SPECS = ("none", "topk:ratio=0.1", "powersgd:rank=2", "qsgd")


def play(spec, twice=lambda number: False, **how):
    random.seed(0)
    inner, grid = federation(spec, **how)
    inner.twice = twice
    result = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=3)
    return inner, grid, result.arrays.to_torch_state_dict()


@pytest.mark.parametrize("spec", SPECS[1:])
def test_a_message_that_is_delivered_twice_gets_the_same_answer(spec):
    inner, grid, plain = play(spec)
    # The context of a first delivery is kept, so that its answer alone is lost.
    for number in range(len(inner.asked)):
        again, other, arrays = play(spec, lambda n, number=number: n == number)
        assert all(torch.equal(arrays[name], plain[name]) for name in plain), number
        assert all(context.state["trained"]["times"] == 3 for context in again.contexts.values())
        assert other.transcript.bytes_up() == grid.transcript.bytes_up()


def test_a_scheme_without_state_keeps_no_answer_and_trains_once():
    inner, grid = federation("none", examples=20.0)
    first, again = (ask(start(), node) for node in (70, 11))
    inner.twist = lambda reply, number: [inner.answer(inner.asked[number])] if number == 0 else [reply]
    replies = list(grid.send_and_receive([first, again]))
    assert [reply.metadata.src_node_id for reply in replies if reply.has_error()] == [70]
    assert grid.refused["client:0"].endswith("has been answered; none keeps no answers")
    assert inner.contexts[70].state["trained"]["times"] == 1
    assert not any(name.startswith("gradwire.answer") for name in inner.contexts[70].state)
    inner.twist = lambda reply, number: [reply]
    assert not any(r.has_error() for r in grid.send_and_receive([ask(start(), node, 2) for node in (70, 11)]))


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
    kept = carried(inner.answer(asked[-1]))
    for message in asked[:-1]:
        reply = inner.answer(message)
        assert re.fullmatch(r"(round \d begins late, by|turn) [^\n]* this client stands at \d+", reply.error.reason)
        assert inner.contexts[node].state == before
    if spec == "none":
        assert kept.error.reason.endswith("has been answered; none keeps no answers")
    else:
        assert inner.answer(asked[-1]).content == kept.content


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


def test_two_grids_one_after_the_other_do_not_mix():
    inner, grid = federation("topk:ratio=0.1")
    first = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=3).arrays.to_torch_state_dict()
    random.seed(0)
    again = SchemeGrid(inner, "topk:ratio=0.1", ("w", "b"))
    again.members.parties = dict(grid.members.parties)
    second = run(FedAvg(**ALL), again, ArrayRecord(start()), num_rounds=3).arrays.to_torch_state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
