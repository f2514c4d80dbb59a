"""The two sides of a round: idempotent, checking, resumable, the one door."""

import pytest
import torch

from gradwire.errors import TooFewError, WireError
from gradwire.wire import SERVER, ClientSession, Deal, Message, Send, ServerSession, Transcript

PARTIES = ("client:0", "client:1", "client:2")


def asking(value):
    first = yield Send("a", {"x": torch.tensor([value])})
    second = yield Send("b", {"x": first["x"]}, settled={"state": torch.tensor(1.0)})
    return float(second["x"])


def adding():
    uploads = yield None
    for phase in ("a", "b"):
        total = sum(tensors["x"] for tensors in uploads.values())
        uploads = yield Send(phase, {"x": total})
    return "done"


def server(half=None, **options):
    return ServerSession(half or adding(), PARTIES, 3, **options)


def clients():
    return {party: ClientSession(asking(float(i + 1)), party, 3) for i, party in enumerate(PARTIES)}


def start(serving, sessions):
    return {p: serving.receive(p, s.begin().encode()) for p, s in sessions.items()}


def test_a_round_ends_with_what_the_halves_return():
    serving, sessions = server(), clients()
    assert all(start(serving, sessions).values())
    ((reply, to),) = serving.close()
    assert to == PARTIES
    for party in PARTIES:
        assert serving.receive(party, sessions[party].answer(reply))
    ((reply, _),) = serving.close()
    assert [sessions[p].answer(reply) for p in PARTIES] == [None] * 3
    assert serving.finish() == "done"
    assert {s.outcome for s in sessions.values()} == {18.0}
    assert all(s.done for s in sessions.values())


def test_what_is_delivered_twice_gets_the_same_answer_and_counts_once():
    serving, sessions = server(), clients()
    start(serving, sessions)
    first = sessions["client:0"].begin()
    sent = serving.transcript.bytes_up("client:0")
    assert serving.receive("client:0", first.encode())
    assert serving.transcript.bytes_up("client:0") == sent
    ((reply, _),) = serving.close()
    once, again = sessions["client:0"].answer(reply), sessions["client:0"].answer(reply)
    assert once is again
    assert not serving.receive("client:0", first.encode())  # late: its phase is over, and it is still in the round
    assert "client:0" in serving.parties


def test_messages_of_a_later_phase_that_came_early_are_checked_at_once_and_wait_until_the_end():
    def check(party, phase, tensors):
        if phase == "b" and tensors["x"] < 0:
            raise WireError("it is negative")

    serving, sessions = server(check=check), clients()
    start(serving, sessions)
    early = {p: Message(p, SERVER, 3, "b", {"x": torch.tensor([float(i - 1)])}) for i, p in enumerate(PARTIES)}
    assert [serving.receive(p, message, early=True) for p, message in early.items()] == [False, True, True]
    assert serving.receive("client:1", early["client:1"], early=True)
    assert serving.refused == {"client:0": "it is negative"}
    serving.close(send=False)
    assert serving.finish() == "done"
    assert [m.phase for m in serving.transcript.messages()] == []
    assert serving.transcript.bytes_up("client:1") == sessions["client:1"].begin().size + early["client:1"].size
    assert serving.transcript.bytes_down() == 0


def damaged(how):
    good = Message("client:1", SERVER, 3, "a", {"x": torch.tensor([2.0])})
    if how == "corrupted":
        data = good.encode()
        data[-1] ^= 1
        return data, "corrupted"
    changed = {
        "another round": Message("client:1", SERVER, 2, "a", good.tensors),
        "another sender": Message("client:2", SERVER, 3, "a", good.tensors),
        "not a number": Message("client:1", SERVER, 3, "a", {"x": torch.tensor([float("nan")])}),
        "another phase": Message("client:1", SERVER, 3, "z", good.tensors),
        "checked": Message("client:1", SERVER, 3, "a", {"y": torch.zeros(1)}),
    }
    return changed[how].encode(), {
        "another round": "round 3 from client:1 was due",
        "another sender": "from client:1 was due",
        "not a number": "'x' is not finite in 1 of 1 entries",
        "another phase": "came in phase 'a'",
        "checked": "holds y",
    }[how]


def check(party, phase, tensors):
    if set(tensors) != {"x"}:
        raise WireError(f"{party} holds {', '.join(tensors)}")


@pytest.mark.parametrize(
    "how", ["corrupted", "another round", "another sender", "not a number", "another phase", "checked"]
)
def test_a_party_that_sends_what_it_must_not_is_named_and_the_round_goes_on(how):
    serving, sessions = server(check=check), clients()
    data, why = damaged(how)
    for party, session in sessions.items():
        serving.receive(party, data if party == "client:1" else session.begin().encode())
    sent = serving.transcript.bytes_up("client:1")
    ((reply, to),) = serving.close()
    assert to == ("client:0", "client:2")
    assert reply.tensors["x"].tolist() == [4.0]
    assert why in serving.refused["client:1"]
    assert how == "another sender" or sent == len(data)
    assert not serving.receive("client:1", sessions["client:1"].begin().encode())


def test_a_stranger_is_refused_and_nobody_left_ends_the_round():
    serving = server()
    with pytest.raises(WireError, match="client:9 is not among its clients"):
        serving.receive("client:9", b"")
    for party in PARTIES:
        serving.drop(party, "its battery is empty")
    with pytest.raises(TooFewError, match=r"every client has dropped out; client:0: its battery is empty"):
        serving.close()


def test_replies_of_its_own_reach_each_client():
    def dealing():
        uploads = yield None
        yield Deal("a", {party: {"x": 10 * tensors["x"]} for party, tensors in uploads.items()})

    def once(value):
        reply = yield Send("a", {"x": torch.tensor([value])})
        return float(reply["x"])

    serving = server(dealing())
    sessions = {party: ClientSession(once(float(i)), party, 3) for i, party in enumerate(PARTIES)}
    start(serving, sessions)
    for reply, (party,) in serving.close():
        sessions[party].answer(reply)
        others = [p for p in PARTIES if p != party]
        with pytest.raises(WireError, match="was due"):
            ClientSession(once(0.0), others[0], 3).answer(reply)
    assert [s.outcome for s in sessions.values()] == [0.0, 10.0, 20.0]


def test_a_reply_that_nobody_needs_is_not_counted():
    serving, sessions = server(transcript=Transcript()), clients()
    start(serving, sessions)
    serving.close(send=False)
    assert serving.transcript.bytes_down() == 0


def test_a_client_that_vanishes_goes_on_from_the_state_that_its_last_message_settled():
    serving, sessions = server(), clients()
    start(serving, sessions)
    ((reply, _),) = serving.close()
    session = sessions["client:0"]
    assert session.settled is None
    serving.receive("client:0", session.answer(reply))
    ((reply, _),) = serving.close()
    session.answer(reply)
    assert session.settled == {"state": torch.tensor(1.0)}


def test_messages_out_of_step_are_refused_by_a_client():
    session = ClientSession(asking(1.0), "client:0", 3)
    for wrong in (
        Message(SERVER, "everyone", 2, "a", {"x": torch.ones(1)}),
        Message(SERVER, "everyone", 3, "b", {"x": torch.ones(1)}),
        Message("client:1", "everyone", 3, "a", {"x": torch.ones(1)}),
    ):
        with pytest.raises(WireError, match=r"'a' of round 3 from server to client:0 was due"):
            session.answer(wrong)
    assert session.answer(Message(SERVER, "client:0", 3, "a", {"x": torch.ones(1)})).phase == "b"


def test_messages_that_are_added_up_are_not_kept_and_come_to_the_same():
    def half():
        first = yield None
        second = yield Send("a", mean_of(first))
        yield Send("b", mean_of(second))
        return mean_of(first), mean_of(second)

    def mean_of(uploads):
        return {"x": torch.stack([tensors["x"] for tensors in uploads.values()]).mean(0)}

    parties = ("client:0", "client:1", "client:2")
    results = []
    for adds in (False, True):
        session = ServerSession(half(), parties, 0, refuse_large, adds=adds)
        for i, party in enumerate(parties):
            beside = Message(party, SERVER, 0, "b", {"x": torch.tensor([1000.0 if i == 1 else 10.0 * i])})
            assert session.receive(party, beside, early=True)
            large = 100.0 if party == "client:1" else float(i)
            session.receive(party, Message(party, SERVER, 0, "a", {"x": torch.tensor([large])}))
            session.receive(party, Message(party, SERVER, 0, "a", {"x": torch.tensor([large])}))
        if adds:
            assert not any(message.tensors for message in session._uploads.values())
        session.close()
        results.append(session.finish())
    # What client 1 sent beside a message that was refused counts for nothing.
    assert results[0][0] == results[1][0] == {"x": torch.tensor([1.0])}
    assert results[1][1] == {"x": torch.tensor([10.0])}


def refuse_large(party, phase, tensors):
    if phase == "a" and float(tensors["x"]) > 50:
        raise WireError("too large")
