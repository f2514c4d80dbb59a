"""What no honest client sends, in every phase of every scheme: its sender is named and dropped, the others go on."""

import warnings
from dataclasses import replace

import pytest
import torch

from gradwire.errors import GradwireError
from gradwire.rounds.halves import checking, client_half, server_half
from gradwire.schemes import Layout, Round, initial_states, parse
from gradwire.secure.kdf import insecure_seed
from gradwire.wire import ClientSession, ServerSession
from tests.schemes.rounds import random_update
from tests.schemes.test_dtypes import PARTIES, SPECS, contribution

UPDATES = {party: random_update(i) for i, party in enumerate(PARTIES)}
LAYOUT = Layout.of(UPDATES[PARTIES[0]])
LIAR = PARTIES[1]
pytestmark = pytest.mark.filterwarnings("ignore::gradwire.secure.kdf.InsecureWarning")


def not_finite(tensors):
    return {n: torch.full_like(t, torch.nan) if t.is_floating_point() else t for n, t in tensors.items()}


def missing(tensors):
    return dict(list(tensors.items())[1:])


def extra(tensors):
    return {**tensors, "more": torch.zeros(3)}


def broadcastable(tensors):
    return {n: t.reshape(-1)[:1].clone() for n, t in tensors.items()}


def another_dtype(tensors):
    return {n: t.to(torch.float16 if t.is_floating_point() else torch.int16) for n, t in tensors.items()}


TAMPERINGS = (not_finite, missing, extra, broadcastable, another_dtype)


def differ(one, other):
    return one.keys() != other.keys() or any(
        (t.dtype, t.shape) != (other[n].dtype, other[n].shape) or not torch.equal(t, other[n]) for n, t in one.items()
    )


def run(spec, index=0, before="", tamper=None):
    """Drive both sides of a round.

    Args:
        before: the phase in which the liar's message is tampered with, or (without `tamper`) does not come.

    Returns:
        the phases; the server's session at the end; whether tampering changed anything.
    """
    scheme = parse(spec)
    with insecure_seed(index):
        context = Round(index, PARTIES, 0, LAYOUT, start=random_update(99))
        private, public = initial_states(scheme, LAYOUT, PARTIES, 0), scheme.public_state(LAYOUT)
        brought = {p: contribution(scheme, UPDATES[p], private[p], context) for p in PARTIES}
        clients = {p: ClientSession(client_half(scheme, b, public, context), p, index) for p, b in brought.items()}
        check = checking(scheme, context, {})
        server = ServerSession(server_half(scheme, public, context, {}), PARTIES, index, check)
        messages, phases, changed = {p: session.begin() for p, session in clients.items()}, [], False
        while messages:
            phases.append(next(iter(messages.values())).phase)
            for party, message in messages.items():
                if (party, message.phase) != (LIAR, before):
                    assert server.receive(party, message.encode()), server.refused
                elif tamper is None:
                    server.drop(LIAR, "it is not there")
                else:
                    tampered = replace(message, tensors=tamper(message.tensors))
                    changed = differ(tampered.tensors, message.tensors)
                    server.receive(LIAR, tampered.encode())
            answers = {p: clients[p].answer(reply) for reply, to in server.close() for p in to}
            messages = {party: answer for party, answer in answers.items() if answer is not None}
        server.finish()
        return phases, server, changed


def outcome(*case):
    """As `run`; the error in place of the server's session where there is one."""
    try:
        return run(*case)
    except GradwireError as error:
        return (), error, True


ROUNDS = [*((spec, 0) for spec in SPECS), (next(s for s in SPECS if s.startswith("autoencoder")), 1)]
with warnings.catch_warnings(action="ignore"):
    CASES = [(spec, index, phase) for spec, index in ROUNDS for phase in run(spec, index)[0]]


@pytest.mark.parametrize(("spec", "index", "phase"), CASES)
def test_who_sends_what_it_must_not_is_named_and_the_others_go_on(spec, index, phase):
    expected = outcome(spec, index, phase)[1]
    for tamper in TAMPERINGS:
        _, found, changed = outcome(spec, index, phase, tamper)
        if not changed:
            continue
        if isinstance(expected, GradwireError):  # the protocol needs this client: pairwise masks, a dealt permutation
            assert isinstance(found, GradwireError), tamper
        if isinstance(found, GradwireError):
            assert LIAR in str(found), tamper
            # Only the server's half knows how many codes on an anonymous union there must be.
            assert type(found) is type(expected) or (tamper is broadcastable and "anonymous" in spec), tamper
            continue
        assert found.refused.keys() == {LIAR}, tamper
        assert LIAR in found.refused[LIAR]
        for name, tensor in expected.result.aggregate.items():
            torch.testing.assert_close(found.result.aggregate[name], tensor)
