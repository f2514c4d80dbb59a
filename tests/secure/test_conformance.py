"""Our own protocol passes; an imitation of code in use, with its faults, fails where it should."""

import numpy as np
import torch

from gradwire.errors import WireError
from gradwire.secure.conformance import Subject, examine, uniform_masks
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.masks import expand
from gradwire.secure.ring import Ring
from tests.secure.sums import server_half, states

CLIENTS = 4


class Ours(Subject):
    generator = "aes-gcm"
    modulus = 1 << 16

    def expand(self, seed, count):
        return expand(seed, count, np.dtype("<u2"))

    def encode(self, values, clients):
        return Ring(16, clients).encode(torch.from_numpy(values), 1.0)

    def message(self, values, examples):
        """What client 0 sends with its codes: the names of tensors in its masked message."""
        _, uploads = self.up_to_masked(self.encode(values, CLIENTS))
        return {name: tensor.numpy().tobytes() for name, tensor in uploads[0].tensors.items()}

    def reveal(self, stayed, dropped):
        half, _ = self.up_to_masked(np.zeros(4, np.uint16))
        try:
            revealed = half.send({"places": torch.tensor(sorted(stayed), dtype=torch.int32)}).tensors
        except WireError as error:
            raise PermissionError from error
        places = set(revealed["places"].tolist())
        return {"seeds": places & stayed, "keys": places - stayed}

    def up_to_masked(self, codes):
        """Client 0's half after it has sent its masked codes, and what all have sent then."""
        private, ring, protocol = states(CLIENTS), Ring(16, CLIENTS), DoubleMask(3)
        gathering = Gathering(tuple(private), 0, 0)

        def half(state):
            member = yield from protocol.join(gathering, state, {})
            yield from member.add(codes, ring, "masked")

        halves = {party: half(state) for party, state in private.items()}
        server = server_half(protocol, gathering, {}, ring, len(codes))
        next(server)
        sends = {party: next(each) for party, each in halves.items()}
        for _ in ("keys", "shares"):
            deal = server.send({party: send.tensors for party, send in sends.items()})
            sends = {party: each.send(deal.tensors[party]) for party, each in halves.items()}
        going = server.send({party: send.tensors for party, send in sends.items()})
        sends = {party: each.send(going.tensors) for party, each in halves.items()}
        return halves["client:0"], list(sends.values())


class Imitation(Ours):
    """Seeds folded to 32 bits, a Mersenne Twister, lists that may overlap, a sample count, 64-bit integers."""

    generator = "mt19937"
    modulus = 1 << 32

    def expand(self, seed, count):
        folded = np.bitwise_xor.reduce(np.frombuffer(seed, dtype="<u4"))
        return np.random.RandomState(folded).randint(0, self.modulus - 1, count, dtype=np.int64)

    def encode(self, values, clients):
        return np.round((values + 1) / 2 * (1 << 31)).astype(np.int64)

    def message(self, values, examples):
        masked = (self.encode(values, CLIENTS) + self.expand(bytes(32), len(values))) % self.modulus
        return {"masked": masked.tobytes(), "num_examples": str(examples).encode()}

    def reveal(self, stayed, dropped):
        return {"seeds": stayed, "keys": dropped}


def test_our_own_protocol_conforms():
    failed = [finding for finding in examine(Ours(), CLIENTS) if not finding.passed]
    assert not failed


def test_masks_that_are_not_uniform_are_found():
    class Low(Ours):
        def expand(self, seed, count):
            return super().expand(seed, count) >> 1

    class Wide(Ours):
        def expand(self, seed, count):
            return super().expand(seed, count).astype(np.int64) + 1

    for subject, detail in ((Low(), "sigma from uniform"), (Wide(), "a mask holds 65536, not below 65536")):
        passed, found = uniform_masks(subject, CLIENTS)
        assert not passed
        assert detail in found


def test_each_fault_is_found():
    findings = {finding.check: finding for finding in examine(Imitation(), CLIENTS)}
    failed = {name for name, finding in findings.items() if not finding.passed}
    assert failed == {
        "seed_entropy",
        "trusted_generator",
        "disjoint_shares",
        "side_channels",
        "overflow_bound",
        "width",
    }
    assert findings["side_channels"].detail == "in the clear: num_examples"
    assert "64.0 bits an entry" in findings["width"].detail
