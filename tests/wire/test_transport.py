import pytest
import torch

from gradwire.errors import WireError
from gradwire.wire import Deal, InProcess, Message, Send, Transcript, drop_out
from gradwire.wire.transport import drive


def ask(value, phases=("a", "b")):
    total = torch.tensor(0.0)
    for phase in phases:
        reply = yield Send(phase, {"x": torch.tensor([value])})
        total = total + reply["x"]
    return float(total)


def add(phases=("a", "b")):
    seen = []
    uploads = yield None
    for number, phase in enumerate(phases):
        seen.append(sorted(uploads))
        total = sum(tensors["x"] for tensors in uploads.values())
        if number < len(phases) - 1:
            uploads = yield Send(phase, {"x": total})
        else:
            yield Send(phase, {"x": total})
    return seen


def test_halves_are_driven_to_their_ends():
    transport = InProcess()
    outcomes, served = drive(transport, {"client:0": ask(1.0), "client:1": ask(2.0)}, add(), 4)
    assert outcomes == {"client:0": 6.0, "client:1": 6.0}
    assert served == [["client:0", "client:1"]] * 2


def test_bytes_are_the_lengths_of_the_messages():
    transport = InProcess()
    drive(transport, {"client:0": ask(1.0), "client:1": ask(2.0)}, add(), 0)
    drive(transport, {"client:0": ask(1.0)}, add(), 1)
    transcript = transport.transcript
    sent = [len(m.encode()) for m in transcript.messages() if m.sender == "client:0" and m.round == 0]
    replies = [len(m.encode()) for m in transcript.messages(round=0) if m.sender == "server"]
    assert transcript.bytes_up("client:0", 0) == sum(sent)
    assert transcript.bytes_down("client:1", 0) == sum(replies)
    assert transcript.bytes_down(round=0) == 2 * sum(replies)
    assert transcript.bytes_up() == sum(len(m.encode()) for m in transcript.messages() if m.sender != "server")


def test_who_sees_what():
    transport = InProcess()
    drive(transport, {"client:0": ask(1.0), "client:1": ask(2.0)}, add(), 0)
    everything = list(transport.transcript.messages())
    assert list(transport.transcript.seen_by("server")) == everything
    assert list(transport.transcript.seen_by("eavesdropper")) == everything
    mine = transport.transcript.seen_by("client:1")
    assert {m.sender for m in mine} == {"client:1", "server"}
    assert len(mine) == 4
    dealt = Message("server", "client:0", 0, "y", {})
    transport.transcript.record(dealt, dealt.size, ("client:0",))
    assert dealt in transport.transcript.seen_by("client:0")
    assert dealt not in transport.transcript.seen_by("client:1")


def test_clients_out_of_step_are_refused():
    outcomes, _ = drive(InProcess(), {"client:0": ask(1.0), "client:1": ask(1.0, ("z",))}, add(), 0)
    assert outcomes == {"client:0": 2.0}
    with pytest.raises(WireError, match="did not reply"):
        drive(InProcess(), {"client:0": ask(1.0, ("a", "b", "c"))}, _silent(), 0)
    with pytest.raises(WireError, match="no client sends"):
        drive(InProcess(), {"client:0": ask(1.0, ("a",))}, add(), 0)


def _silent():
    yield None
    yield None


def test_a_long_run_forgets_messages_and_keeps_counting():
    transport = InProcess(Transcript(keep=1))
    for round in range(5):
        drive(transport, {"client:0": ask(1.0)}, add(), round)
    assert {m.round for m in transport.transcript.messages()} == {4}
    assert all(transport.transcript.bytes_up(round=round) > 0 for round in range(5))


def test_transcripts_are_written_and_broken_ones_refused():
    transport = InProcess()
    drive(transport, {"client:0": ask(1.0)}, add(), 0)
    data = transport.transcript.encode()
    loaded = Transcript.decode(data, "it")
    assert [m.encode() for m in loaded] == [m.encode() for m in transport.transcript.messages()]
    with pytest.raises(WireError):
        Transcript.decode(data[:-3], "it")
    with pytest.raises(WireError, match="it is not a transcript"):
        Transcript.decode(b"something else", "it")


def test_parties_get_what_was_decoded_not_one_anothers_tensors():
    tensor = torch.ones(3)
    got = Message.decode(Message("a", "b", 0, "x", {"t": tensor}).encode()).tensors["t"]
    tensor.zero_()
    assert torch.equal(got, torch.ones(3))


def deal_each_its_own(phases=("a", "b")):
    uploads = yield None
    for phase in phases:
        uploads = yield Deal(phase, {party: {"x": 10 * tensors["x"]} for party, tensors in uploads.items()})


def test_a_dealt_reply_reaches_one_party_and_no_other():
    transport = InProcess()
    outcomes, _ = drive(transport, {"client:0": ask(1.0), "client:1": ask(2.0)}, deal_each_its_own(), 0)
    assert outcomes == {"client:0": 20.0, "client:1": 40.0}
    mine = transport.transcript.seen_by("client:1")
    assert {(m.sender, m.receiver) for m in mine} == {("client:1", "server"), ("server", "client:1")}
    replies = [len(m.encode()) for m in mine if m.sender == "server"]
    assert transport.transcript.bytes_down("client:1") == sum(replies)


def test_a_deal_must_reach_everybody_who_waits():
    def one_alone():
        uploads = yield None
        yield Deal("a", {"client:0": uploads["client:0"]})

    with pytest.raises(WireError, match=r"replies to \['client:0'\], not to \['client:0', 'client:1'\]"):
        drive(InProcess(), {"client:0": ask(1.0), "client:1": ask(2.0)}, one_alone(), 0)


def test_the_others_go_on_without_a_client_that_drops_out():
    transport = InProcess()
    clients = {"client:0": ask(1.0), "client:1": drop_out(ask(2.0), "b"), "client:2": drop_out(ask(4.0), "never")}
    outcomes, served = drive(transport, clients, add(), 0)
    assert outcomes == {"client:0": 12.0, "client:2": 12.0}
    assert served == [["client:0", "client:1", "client:2"], ["client:0", "client:2"]]
    with pytest.raises(WireError, match="every client has dropped out"):
        drive(InProcess(), {"client:0": drop_out(ask(1.0), "a")}, add(), 0)
