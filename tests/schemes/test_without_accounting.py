"""Without dp-accounting, a run with a private scheme ends, and says what its ε needs."""

import sys

import pytest
import torch

from gradwire.schemes import parse
from tests.schemes.rounds import Cluster, random_update


@pytest.mark.parametrize("spec", ["dpsgd", "dpftrl", "dpfedavg"])
def test_notes_name_what_is_missing(spec, monkeypatch):
    cluster = Cluster.of(spec, [random_update(i) for i in range(2)])
    cluster.run([random_update(i) for i in range(2)])
    states = {party: dict(state) for party, state in cluster.private.items()}
    for state in states.values():
        state |= {name: torch.ones_like(value) for name, value in state.items() if name in COUNTED}
    assert "under replace of one" in parse(spec).notes(states)[0]
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert parse(spec).notes(states) == (f"{spec}: ε needs dp-accounting: pip install 'gradwire[dp]'",)


COUNTED = ("spent/steps", "spent/passes", "spent/longest", "rounds")
