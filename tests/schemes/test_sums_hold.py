"""Secure sums with clients that lie about R_max, with values that cannot be sent, with few bits and many clients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import TooFewError, WireError
from gradwire.schemes import Layout, Round, exchange_keys, parse
from gradwire.schemes.magnitudes import HEADROOM, agreed_maximum, listed
from gradwire.schemes.ssga import cancelled, told
from gradwire.secure.ring import LEAST, Ring
from gradwire.wire import ClientSession, InProcess, ServerSession, client
from tests.schemes.rounds import flat, random_update

magnitudes = st.lists(st.floats(0, 1e9), min_size=1, max_size=12)


def played(spec, updates, change=lambda party, send: send):
    """A round whose clients' messages go through `change`: the server's session, and the clients' states."""
    scheme, layout = parse(spec), Layout.of(updates[0])
    fresh = {client(i): scheme.private_state(layout, secret=i) for i in range(len(updates))}
    private = exchange_keys(scheme, fresh)
    context = Round(0, tuple(private), 0, layout)

    def through(party, half):
        send = next(half)
        while True:
            try:
                send = half.send((yield change(party, send)))
            except StopIteration as stop:
                return stop.value

    halves = {p: through(p, scheme.client(u, private[p], {}, context)) for p, u in zip(private, updates, strict=True)}
    clients = {party: ClientSession(half, party, 0) for party, half in halves.items()}
    server = ServerSession(
        scheme.server({}, context), private, 0, lambda party, phase, tensors: scheme.check(phase, tensors, context)
    )
    InProcess().exchange(clients, server)
    return server, {party: session.outcome.private for party, session in clients.items() if session.outcome}


@given(magnitudes, st.data())
def test_no_liars_among_c_move_the_maximum_by_more_than_the_headroom(honest, data):
    liars = data.draw(st.integers(0, len(honest) - 1))
    lies = data.draw(st.lists(st.floats(0, 1e30), min_size=liars, max_size=liars))
    told = dict(enumerate([*honest, *lies]))
    assert agreed_maximum(told, liars) <= HEADROOM * max(honest)
    alike = dict(enumerate([1.0] * len(honest) + [3.9] * liars))
    assert agreed_maximum(alike, liars) == max(alike.values())


@pytest.mark.parametrize("spec", ["sga", "sga:bits=16", "ssga:compression=4", "sga:threshold=4"])
@pytest.mark.parametrize("lie", [1e30, 0.0])
def test_one_client_that_lies_about_its_magnitude_does_not_ruin_the_sum(spec, lie):
    updates = [random_update(i) for i in range(5)]

    def change(party, send):
        if party == "client:1" and "maximum" in send.tensors:
            send.tensors["maximum"].fill_(lie)  # what it has told, it believes itself
        return send

    server, _ = played(spec, updates, change)
    assert not server.refused
    sent = flat(server.result.aggregate)
    error = (sent - torch.where(sent != 0, sum(map(flat, updates)) / 5, 0.0)).abs().max()
    assert error < (3e-3 if "bits=16" in spec else 1e-6)


def test_the_papers_maximum_is_ruined_by_one_client():
    updates = [random_update(i) for i in range(5)]

    def change(party, send):
        if party == "client:1" and "maximum" in send.tensors:
            send.tensors["maximum"].fill_(1e30)
        return send

    sent = flat(played("sga:max=largest", updates, change)[0].result.aggregate)
    assert (sent - sum(map(flat, updates)) / 5).abs().max() > 1


def test_a_server_that_changes_what_a_client_told_is_found_out_by_it():
    updates = [random_update(i) for i in range(5)]
    scheme = parse("sga")
    gathering = scheme.gathering(Round(0, tuple(map(client, range(5))), 0, Layout.of(updates[0])))
    own = torch.tensor(2.0)
    with pytest.raises(WireError, match=r"says that client:1 told 1e\+30; it told 2.0"):
        scheme.maximum(listed({0: 3.0, 1: 1e30}), gathering, own, 1)
    with pytest.raises(WireError, match="says that client:1 told None"):
        scheme.maximum(listed({0: 3.0}), gathering, own, 1)


def test_a_liar_of_one_mind_costs_two_bits():
    updates = [random_update(i) for i in range(4)]
    updates[1] = {name: t * 1e30 if name == "head.bias" else t * 0 for name, t in updates[1].items()}
    server, private = played("sga", updates)
    sent, true = flat(server.result.aggregate), sum(flat(u) for i, u in enumerate(updates) if i != 1) / 4
    weights = torch.cat([torch.full((t.numel(),), n != "head.bias") for n, t in updates[0].items()])
    assert (sent - true)[weights].abs().max() < 1e-5
    assert private["client:1"]["clipped"].tolist() == [10, 472]
    assert "client:1 had 10 of 472 values clipped (2.12%)" in " ".join(parse("sga").notes(private))
    assert private["client:0"]["clipped"].tolist() == [0, 472]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", ["", ",max=5.0"])
def test_what_is_not_finite_is_never_masked(value, options):
    updates = [random_update(i) for i in range(5)]
    updates[2]["conv.bias"][3] = value
    server, _ = played(f"sga:threshold=4{options}", updates)
    assert "client:2: 1 of 472 values are not finite; nothing is masked or sent" in server.refused["client:2"]
    mean = sum(flat(u) for i, u in enumerate(updates) if i != 2) / 4
    assert (flat(server.result.aggregate) - mean.clamp(-5, 5)).abs().max() < 1e-5
    with pytest.raises(TooFewError, match="1 of 472 values are not finite"):
        played(f"ssga:compression=4{options}", updates)


@pytest.mark.parametrize("clients", [2, 3, 16, 17, 65, 100, 1000])
def test_few_bits_bias_no_mean_of_any_number_of_clients(clients):
    """The slope of the mean of what was decoded over the true mean is 1, to what chance leaves, 0.1 % or less."""
    ring, count, seed = Ring.fitting(8, clients), 4_000_000 // clients, torch.Generator().manual_seed(0)
    assert ring.ceiling >= LEAST
    assert ring.bits == (8 if clients <= 16 else 16)
    values = 0.05 * torch.randn(count, generator=seed) + 0.02
    total = np.zeros(count, ring.dtype)
    for seat in range(clients):
        total += ring.encode(values, 1.0, seat, seed)
    mean = ring.decode(total, clients, 1.0) / clients
    slope = float(mean @ values.double() / (values @ values).double())
    noise = 1 / ring.ceiling / clients**0.5 / float(values.norm())
    assert abs(slope - 1) < 4 * noise
    assert 4 * noise < 3e-3


@pytest.mark.parametrize("bits", [8, 16])
def test_small_values_among_few_levels_are_in_the_sum(bits):
    """To the nearest level all but the first entry would be nothing, or half a level, in every client's message."""
    updates = [{"w": torch.cat([torch.ones(1), torch.full((20_000,), 0.01)])} for _ in range(10)]
    sent = flat(played(f"sga:bits={bits}", updates)[0].result.aggregate)
    assert float(sent[1:].mean()) == pytest.approx(0.01, rel=0.05)
    nearest = flat(played("sga:bits=8,rounding=nearest", updates)[0].result.aggregate)
    assert abs(float(nearest[1:].mean()) - 0.01) > 5e-3


def test_the_report_says_what_is_on_the_wire():
    states = {client(i): {} for i in range(100)}
    (levels, clear) = parse("sga:bits=8").notes(states)
    assert "100 clients have 655 levels each of 16 bits (bits=8 would leave too few levels)" in levels
    assert "largest magnitude is told in the clear" in clear
    assert len(parse("sga:max=1.0").notes(states)) == 1
    assert "which entries each client chooses is told in the clear" in parse("ssga").notes(states)[-1]
    assert "the union of all clients' choices is told" in parse("ssga:union=anonymous").notes(states)[-1]
    voted = parse("ssga:union=anonymous,anonymity=3,colluders=0").notes(states)[-1]
    assert voted.endswith("how many entries had how many votes is not")
    assert len(parse("ssga:mask=random,max=1.0").notes(states)) == 1
    assert "sga" in " ".join(parse("powersgd:rank=1+sga").accounting.notes(states))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda chosen, size: torch.arange(5 * (size // 4 // 5) + 1), "the union has 116 entries; the choices of all"),
        (lambda chosen, size: chosen[1:], "the union lacks [1-9][0-9]* of this client's 23 entries"),
    ],
)
def test_a_union_that_cannot_be_is_refused(change, why):
    scheme = parse("ssga:compression=4")
    updates = [random_update(i) for i in range(5)]
    context = Round(0, tuple(map(client, range(5))), 0, Layout.of(updates[0]))
    chosen = scheme.choice(flat(updates[0]), context)
    scheme.refuse(chosen, chosen, context)
    with pytest.raises(WireError, match=why):
        scheme.refuse(change(chosen, 472), chosen, context)
    assert set(told(chosen, context)) == {"indices", "count"}


def test_of_an_anonymous_union_so_many_may_be_missing_as_cancel():
    assert [cancelled(n) for n in (1, 23, 1000)] == [1, 4, 16]


@pytest.mark.parametrize("spec", ["sga", "ssga:compression=4", "sga:threshold=2", "powersgd:rank=1+sga"])
def test_odd_tensors_go_through(spec):
    shapes = {"w": (8, 5), "empty": (0, 4), "scalar": ()}
    updates = [random_update(i, shapes) for i in range(2)]
    server, _ = played(spec, updates)
    assert {n: tuple(t.shape) for n, t in server.result.aggregate.items()} == shapes
    huge = [{"w": torch.full((4,), 3e38)} for _ in range(2)]
    assert flat(played("sga", huge)[0].result.aggregate).tolist() == pytest.approx([3e38] * 4)
