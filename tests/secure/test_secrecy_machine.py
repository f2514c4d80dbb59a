"""Whatever a server says to whom, and whoever drops out: it never gets enough shares of both secrets of one client."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gradwire.errors import WireError
from gradwire.secure.byte_tensors import to_bytes
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.ring import Ring
from gradwire.secure.shares import SECRET_BYTES
from gradwire.wire import client
from tests.secure.sums import states

MOST = 6
places = st.integers(0, MOST - 1)
sets = st.sets(places, max_size=3)
few = st.sets(places, max_size=1)


class LyingServer(RuleBasedStateMachine):
    """The server follows the protocol up to the masked codes, and from then on tells every client what it likes.

    As many clients side with it as are assumed: they sign whatever it wants, and give it both shares of everybody.
    Without binding nobody signs, none collude, and every client answers whatever list it is shown.
    """

    @initialize(clients=st.integers(2, MOST), more=places, before_shares=few, before_masked=few, bound=st.booleans())
    def begin(self, clients, more, before_shares, before_masked, bound):
        self.clients, self.colluders = clients, clients // 3 if bound else 0
        self.threshold = min(clients, (clients + self.colluders) // 2 + 1 + more)
        protocol, ring = DoubleMask(self.threshold, colluders=self.colluders), Ring(8, clients)
        gathering = Gathering(tuple(map(client, range(clients))), 0, 0, digest=b"said" if bound else None)
        self.halves, self.held, self.told, self.signed = {}, {}, set(), {}
        uploads = {}
        for i, (party, state) in enumerate(states(clients).items()):
            self.halves[i] = self.contribute(i, protocol, gathering, state, ring)
            uploads[party] = next(self.halves[i]).tensors
        server = protocol.server(gathering, {}).open(uploads)
        self.seeds = {i: set() for i in range(clients)}
        self.keys = {i: set() for i in range(clients)}
        self.bound = bound
        try:
            uploads = self.answer(next(server).tensors, before_shares)
            uploads = self.answer(server.send(uploads).tensors, before_masked)
            self.answer(dict.fromkeys(map(client, range(clients)), server.send(uploads).tensors), set())
        except WireError:
            self.halves = {}
        for i in range(self.colluders if self.halves else 0):
            for place in self.held.get(i, {}):
                self.seeds[place].add(i)
                self.keys[place].add(i)

    def contribute(self, i, protocol, gathering, state, ring):
        member = yield from protocol.join(gathering, state, {})
        self.held[i] = member.held
        yield from member.add(np.zeros(2, ring.dtype), ring, "masked")

    def answer(self, replies, gone):
        """Pass the server's replies on to those that are still there; what they send next."""
        for i in gone:
            self.halves.pop(i, None)
        uploads = {}
        for i, half in list(self.halves.items()):
            try:
                uploads[client(i)] = half.send(replies[client(i)]).tensors
            except WireError:
                del self.halves[i]
        return uploads

    @rule(i=places, gone=sets)
    def tell(self, i, gone):
        """Tell one client that all codes but these arrived; it signs that, or reveals its shares."""
        if i not in self.halves or i in self.signed:
            return
        stayed = tuple(sorted(set(range(self.clients)) - gone))
        try:
            sent = self.halves[i].send({"places": torch.tensor(stayed, dtype=torch.int32)}).tensors
        except WireError:
            assert i in self.told or i not in stayed or len(stayed) < self.threshold
            del self.halves[i]
            return
        self.told.add(i)
        if self.bound:
            self.signed[i] = stayed, sent["signature"]
        else:
            self.take(i, sent)

    @precondition(lambda self: getattr(self, "signed", None))
    @rule(i=places)
    def show(self, i):
        """Show one client all signatures that the server has; it reveals its shares, if enough say what it says."""
        if i not in self.signed or i not in self.halves:
            return
        shown = torch.tensor(list(self.signed), dtype=torch.int32)
        table = torch.stack([signature for _, signature in self.signed.values()])
        alike = [j for j, (stayed, _) in self.signed.items() if stayed == self.signed[i][0]]
        try:
            self.take(i, self.halves[i].send({"places": shown, "signatures": table}).tensors)
            assert len(alike) >= self.threshold
        except WireError:
            assert len(alike) < self.threshold
        del self.halves[i]

    def take(self, i, sent):
        """Take down the shares that a client reveals."""
        for place, share in zip(sent["places"].tolist(), sent["shares"], strict=True):
            of_seed, of_key = self.held[i][place][:SECRET_BYTES], self.held[i][place][SECRET_BYTES:]
            assert to_bytes(share) in (of_seed, of_key)
            (self.seeds if to_bytes(share) == of_seed else self.keys)[place].add(i)

    @invariant()
    def never_both(self):
        for i in range(getattr(self, "clients", 0)):
            assert len(self.seeds[i] & self.keys[i]) <= self.colluders
            assert min(len(self.seeds[i]), len(self.keys[i])) < self.threshold


TestLyingServer = LyingServer.TestCase
TestLyingServer.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)
