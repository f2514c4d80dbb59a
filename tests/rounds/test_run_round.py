"""One round: clients that vanish, clients that send what they must not, sessions that outlive their process."""

import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from tests.schemes.rounds import SHAPES, random_update

from gradwire.errors import TooFewError, WireError
from gradwire.rounds import ClientRound, run_round
from gradwire.rounds.halves import checking, client_half, server_half
from gradwire.schemes import Contribution, Layout, Round, initial_states, parse
from gradwire.schemes.none import PlainSGD
from gradwire.secure.kdf import InsecureWarning, insecure_seed
from gradwire.wire import ClientSession, InProcess, Message, Send, ServerSession, client, drop_out

PARTIES = tuple(map(client, range(4)))
UPDATES = {party: random_update(i) for i, party in enumerate(PARTIES)}
LAYOUT = Layout({name: tuple(shape) for name, shape in SHAPES.items()})


def around(**facts):
    return Round(0, PARTIES, 0, LAYOUT, **facts)


def brought(scheme, **options):
    private = initial_states(scheme, LAYOUT, PARTIES, 0)
    return {p: Contribution(u, private[p], **options) for p, u in UPDATES.items()}


def without(party, phase):
    """The one party vanishes before this phase."""
    return lambda each, half: drop_out(half, phase) if each == party else half


def test_a_client_gone_after_its_masked_message_does_not_send_it_again():
    """Conservation: what is applied and what is held back add up to what was computed, whoever vanished when."""
    scheme = parse("ssga:compression=4,threshold=3,colluders=0")
    came = brought(scheme)

    result = run_round(scheme, came, {}, around(), InProcess(), without("client:1", "unmask"))
    assert set(result.left_out) == {"client:1"}
    applied = 4 * LAYOUT.flatten(result.aggregate)
    held = sum(state["residual"] for state in result.private.values())
    computed = sum(LAYOUT.flatten(update) for update in UPDATES.values())
    torch.testing.assert_close(applied + held, computed, atol=1e-4, rtol=1e-4)


def test_a_client_gone_before_its_message_keeps_what_it_held_back():
    scheme = parse("topk:ratio=0.1")
    came = brought(scheme)
    result = run_round(scheme, came, {}, around(), InProcess(), without("client:1", "entries"))
    assert result.left_out == {"client:1": "it vanished before its first message"}
    assert result.private["client:1"] is came["client:1"].private


@pytest.mark.parametrize("spec", ["none", "topk:ratio=0.2", "powersgd:rank=2", "signsgd"])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else t[:-1],
        lambda t: t.reshape(-1)[:1],
        lambda t: t.double() if t.is_floating_point() else t.to(torch.int16),
    ],
    ids=["not a number", "broadcastable", "another dtype"],
)
def test_what_a_client_must_not_send_leaves_the_round_to_the_others(spec, change):
    scheme = parse(spec)

    def tampered(party, half):
        if party != "client:2":
            return half
        send = next(half)
        name = next(iter(send.tensors))
        return _sending(Send(send.phase, {**send.tensors, name: change(send.tensors[name])}))

    result = run_round(scheme, brought(scheme), scheme.public_state(LAYOUT), around(), InProcess(), tampered)
    assert set(result.refused) == {"client:2"}
    assert "client:2" in result.refused["client:2"]
    others = {p: b for p, b in brought(scheme).items() if p != "client:2"}
    expected = run_round(scheme, others, scheme.public_state(LAYOUT), around(), _Without(), lambda p, h: h)
    torch.testing.assert_close(LAYOUT.flatten(result.aggregate), LAYOUT.flatten(expected.aggregate))


def _sending(send):
    yield send


class _Without(InProcess):
    """The round without one of its clients."""

    def exchange(self, clients, server):
        server.drop("client:2", "it is not there")
        super().exchange(clients, server)


def test_weights_and_buffers_count_alike():
    scheme = parse("none")
    weights = dict(zip(PARTIES, (0.4, 0.8, 1.2, 1.6), strict=True))
    came = {
        p: Contribution(u, {}, {"mean": torch.full((2,), float(i)), "count": torch.tensor(10 * i)}, weights[p])
        for i, (p, u) in enumerate(UPDATES.items())
    }
    for how in ("scaled", "told"):
        result = run_round(scheme, came, {}, around(weights=how), InProcess())
        due = sum(weights[p] / 4 * LAYOUT.flatten(u) for p, u in UPDATES.items())
        torch.testing.assert_close(LAYOUT.flatten(result.aggregate), due)
        assert result.buffers["mean"].tolist() == pytest.approx([2.0, 2.0])
        assert result.buffers["count"].dtype == torch.int64
        assert int(result.buffers["count"]) == 20


@dataclass(frozen=True)
class Refusing(PlainSGD):
    """Finds out in the end that client 1 must not count."""

    name = "refusing"

    def server(self, public, round):
        outcome = yield from super().server(public, round)
        return replace(outcome, refused={"client:1": "it is refused"})


def served(scheme, came, context):
    """What the server's half of a round returns."""
    buffers = next(iter(came.values())).buffers
    server = ServerSession(server_half(scheme, {}, context, buffers), PARTIES, 0, checking(scheme, context, buffers))
    InProcess().exchange({p: ClientSession(client_half(scheme, c, {}, context), p, 0) for p, c in came.items()}, server)
    return server.result


def test_a_server_has_the_mean_by_the_weights_that_it_was_told():
    weights = dict(zip(PARTIES, (1.0, 2.0, 3.0, 6.0), strict=True))
    came = {
        p: Contribution(u, {}, {"mean": torch.full((2,), float(i))}, weights[p])
        for i, (p, u) in enumerate(UPDATES.items())
    }
    result = served(parse("none"), came, around(weights="told"))
    due = sum(weights[p] / 12 * LAYOUT.flatten(u) for p, u in UPDATES.items())
    torch.testing.assert_close(LAYOUT.flatten(result.aggregate), due)
    torch.testing.assert_close(result.buffers["mean"], torch.full((2,), (2 + 2 * 3 + 3 * 6) / 12))


def test_the_buffers_of_who_was_refused_do_not_count():
    came = {p: Contribution(u, {}, {"mean": torch.full((2,), float(i))}) for i, (p, u) in enumerate(UPDATES.items())}
    assert served(parse("none"), came, around()).buffers["mean"].tolist() == [1.5, 1.5]
    assert served(Refusing(), came, around()).buffers["mean"].tolist() == pytest.approx([5 / 3, 5 / 3])


@pytest.mark.parametrize(
    "spec", ["topk:ratio=0.1", "powersgd:rank=2", "noise:std=0.1", "sga", "sga:threshold=3,colluders=0"]
)
def test_a_session_that_is_saved_between_any_two_messages_goes_on_with_the_same_answers(spec):
    scheme = parse(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureWarning)
        with insecure_seed(3):
            came = brought(scheme)
    public, context = scheme.public_state(LAYOUT), around(start=random_update(9))
    sessions = {p: ClientRound(scheme, p, c, public, context) for p, c in came.items()}
    server = ServerSession(server_half(scheme, public, context, {}), PARTIES, 0, checking(scheme, context, {}))
    sends = {p: s.session.begin() for p, s in sessions.items()}
    while True:
        for party, message in sends.items():
            assert server.receive(party, message.encode())
        sends = {}
        for reply, to in server.close():
            for party in to:
                again = ClientRound.load(sessions[party].save())
                first, second = sessions[party].session.answer(reply), again.session.answer(reply)
                assert (first is None) == (second is None)
                if first is not None:
                    assert first.encode() == second.encode()
                    sends[party] = first
                sessions[party] = again
        if not sends:
            break
    aggregate = server.finish().aggregate
    for session in sessions.values():
        torch.testing.assert_close(
            LAYOUT.flatten(session.session.outcome.aggregate), LAYOUT.flatten(aggregate), atol=1e-5, rtol=1e-5
        )


def test_bytes_of_something_else_are_no_session():
    with pytest.raises(WireError, match="no saved session"):
        ClientRound.load(bytes(Message("a", "b", 0, "x", {}).encode()))


def test_too_few_leave_all_states_as_they_were():
    scheme = parse("sga")
    with pytest.raises(TooFewError, match="pairwise masks cancel only if all clients send"):
        run_round(
            scheme,
            brought(scheme),
            {},
            around(),
            InProcess(),
            without("client:1", "masked"),
        )
