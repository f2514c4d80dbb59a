"""Whatever a server says to whom, and whoever drops out: it never gets enough shares of both secrets of one client."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
    """The server follows the protocol up to the masked codes, and from then on tells every client what it likes."""

    @initialize(clients=st.integers(2, MOST), more=places, before_shares=few, before_masked=few)
    def begin(self, clients, more, before_shares, before_masked):
        self.clients = clients
        self.threshold = min(clients, clients // 2 + 1 + more)
        protocol, ring = DoubleMask(self.threshold), Ring(8, clients)
        gathering = Gathering(tuple(map(client, range(clients))), 0, 0)
        self.halves, self.held, self.told = {}, {}, set()
        uploads = {}
        for i, (party, state) in enumerate(states(clients).items()):
            self.halves[i] = self.contribute(i, protocol, gathering, state, ring)
            uploads[party] = next(self.halves[i]).tensors
        server = protocol.server(gathering, {}).open(uploads)
        self.seeds = {i: set() for i in range(clients)}
        self.keys = {i: set() for i in range(clients)}
        try:
            uploads = self.answer(next(server), before_shares)
            self.answer(server.send(uploads), before_masked)
        except WireError:
            self.halves = {}

    def contribute(self, i, protocol, gathering, state, ring):
        member = yield from protocol.join(gathering, state, {})
        self.held[i] = member.held
        yield from member.add(np.zeros(2, ring.dtype), ring, "masked")

    def answer(self, deal, gone):
        """Pass the server's replies on to those that are still there; what they send next."""
        for i in gone:
            self.halves.pop(i, None)
        uploads = {}
        for i, half in list(self.halves.items()):
            try:
                uploads[client(i)] = half.send(deal.tensors[client(i)]).tensors
            except WireError:
                del self.halves[i]
        return uploads

    @rule(i=places, gone=sets)
    def tell(self, i, gone):
        """Tell one client that all codes but these arrived, be it again, and take down the shares that it reveals."""
        if i not in self.halves:
            return
        stayed = set(range(self.clients)) - gone
        try:
            sent = self.halves[i].send({"places": torch.tensor(sorted(stayed), dtype=torch.int32)}).tensors
        except WireError:
            assert i in self.told or i not in stayed or len(stayed) < self.threshold
            del self.halves[i]
            return
        self.told.add(i)
        for place, share in zip(sent["places"].tolist(), sent["shares"], strict=True):
            of_seed, of_key = self.held[i][place][:SECRET_BYTES], self.held[i][place][SECRET_BYTES:]
            assert to_bytes(share) in (of_seed, of_key)
            (self.seeds if to_bytes(share) == of_seed else self.keys)[place].add(i)

    @invariant()
    def never_both(self):
        for i in range(getattr(self, "clients", 0)):
            assert not self.seeds[i] & self.keys[i]
            assert min(len(self.seeds[i]), len(self.keys[i])) < self.threshold


TestLyingServer = LyingServer.TestCase
TestLyingServer.settings = settings(max_examples=80, stateful_step_count=12, deadline=None)
