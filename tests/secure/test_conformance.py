"""A masked scheme passes but for what it says it tells; an imitation of code in use, with its faults, fails by name."""

import numpy as np
import pytest

from gradwire.schemes import parse
from gradwire.secure.conformance import Released, examine, uniform_masks
from gradwire.studies.active.subjects import MaskedScheme

CLIENTS = 4
OURS = MaskedScheme(parse("sga:threshold=3,bits=16"), CLIENTS)


class Imitation(MaskedScheme):
    """Seeds folded to 32 bits, a Mersenne Twister, lists that may overlap, a sample count, 64-bit integers."""

    modulus = 1 << 32

    def expand(self, seed, count):
        folded = np.bitwise_xor.reduce(np.frombuffer(seed, dtype="<u4"))
        return np.random.RandomState(folded).randint(0, self.modulus - 1, count, dtype=np.int64)

    def encode(self, values, clients):
        return np.round((np.nan_to_num(values) + 1) / 2 * (1 << 31)).astype(np.int64)

    def message(self, values, examples):
        masked = (self.encode(values, CLIENTS) + self.expand(bytes(32), len(values))) % self.modulus
        return {"masked": masked.tobytes(), "num_examples": str(examples).encode()}

    def reveal(self, stayed, dropped):
        return {"seeds": stayed, "keys": dropped}

    def release(self, values, examples, vanish=None):
        """Clips without a word, counts in whole hundredths, and takes a client that is gone for zeros."""
        clipped = [np.clip(np.nan_to_num(each, nan=-8.0), -8, 8) for each in values]
        there = [each * (not (vanish and i == 1)) for i, each in enumerate(clipped)]
        return Released(np.round(np.mean(there, axis=0), 2))


def test_our_own_protocol_conforms_but_for_the_magnitude_that_it_tells():
    failed = {finding.check: finding.detail for finding in examine(OURS, CLIENTS) if not finding.passed}
    assert failed == {"side_channels": "in the clear: maximum"}
    known = MaskedScheme(parse("sga:threshold=3,bits=16,max=1"), CLIENTS)
    assert not [finding for finding in examine(known, CLIENTS) if not finding.passed]


def test_a_scheme_that_needs_every_client_is_found_to_end_with_one():
    findings = {each.check: each for each in examine(MaskedScheme(parse("sga"), CLIENTS), CLIENTS)}
    assert not findings["dropouts"].passed
    assert findings["dropouts"].detail.endswith("ends the round: keys, offer, masked")


def test_masks_that_are_not_uniform_are_found():
    class Low(MaskedScheme):
        def expand(self, seed, count):
            return super().expand(seed, count) >> 1

    class Wide(MaskedScheme):
        def expand(self, seed, count):
            return super().expand(seed, count).astype(np.int64) + 1

    for kind, detail in ((Low, "sigma from uniform"), (Wide, "a mask holds 65536, not below 65536")):
        passed, found = uniform_masks(kind(OURS.scheme, CLIENTS), CLIENTS)
        assert not passed
        assert detail in found


@pytest.fixture(scope="module")
def findings():
    return {finding.check: finding for finding in examine(Imitation(OURS.scheme, CLIENTS, "mt19937"), CLIENTS)}


@pytest.mark.parametrize(
    ("check", "detail"),
    [
        ("seed_entropy", "gives the mask of no flip"),
        ("trusted_generator", "mt19937 is not one of"),
        ("disjoint_shares", "both secrets of {2}"),
        ("side_channels", "in the clear: num_examples"),
        ("overflow_bound", "the modulus is 4294967296"),
        ("not_finite", "nan of one client is taken for a number: the mean of 0.5 becomes -1.62"),
        ("saturation", "is 2.75, not 25.75, and nobody is told"),
        ("precision", "rms"),
        ("dropouts", "makes a wrong mean: keys (0.31, not 0.4167)"),
        ("width", "64.0 bits an entry"),
    ],
)
def test_each_fault_is_found(findings, check, detail):
    assert not findings[check].passed
    assert detail in findings[check].detail
