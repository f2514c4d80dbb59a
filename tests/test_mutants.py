"""The faults of mutants.toml are faults still: each fragment stands in its file once, and each test is there."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutate import ROOT, mutants

LEAST = 60
ROOMS = ("attacks", "metrics", "report", "rounds", "schemes", "secure", "studies", "wire")


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: f"{mutant.file}: {mutant.why}")
def test_a_fault_can_be_made_and_its_tests_are_there(mutant):
    assert mutant.source()
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / path).read_text(), test


def test_there_are_enough_in_every_room_and_none_twice():
    rooms = Counter(Path(mutant.file).parts[0] for mutant in mutants())
    assert sum(rooms.values()) >= LEAST
    assert set(rooms) == set(ROOMS)
    assert len({(mutant.file, mutant.new) for mutant in mutants()}) == len(mutants())
