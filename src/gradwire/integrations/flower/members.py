"""The nodes of a federation as a scheme's parties: their names, their keys, the rounds that each has been in."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradwire.integrations.flower import records
from gradwire.integrations.flower.questions import Parts, Questions
from gradwire.schemes import Layout, Scheme, State
from gradwire.wire import client

log = logging.getLogger(__name__)


@dataclass
class Members:
    """Who is who.

    Attributes:
        parties: node → party, and `named`, how many names have been given.
        met: party → rounds that it has been in.
        keys: party → public keys, where the scheme has any.
    """

    parties: dict[int, str] = field(default_factory=dict)
    named: int = 0
    met: dict[str, int] = field(default_factory=dict)
    keys: dict[str, State] = field(default_factory=dict)

    def party(self, node: int) -> str:
        """A node's name as a party."""
        if node not in self.parties:
            self.parties[node] = client(self.named)
            self.named += 1
        return self.parties[node]

    def enrol(
        self, questions: Questions, layout: Layout, begin: Callable[[str, list[str]], dict[str, Any]]
    ) -> Mapping[str, str]:
        """Ask the clients whose keys are not known for theirs; party → why it has told none."""
        new = [party for party in questions.asked if party not in self.keys]
        if not new:
            return {}
        text = records.layout_text(layout)
        told: dict[str, Parts] = {party: (begin(party, [party]) | {"layout": text}, {}) for party in new}
        answers = questions.ask(told, lambda _, reply: records.read(reply.content, "keys").tensors)
        self.keys |= answers.taken
        return answers.failed

    def count(self, parties: Iterable[str]) -> None:
        """Take down that they have been in a round."""
        self.met |= {party: self.met.get(party, 0) + 1 for party in parties}

    def note_lost(self, lost: Iterable[str], scheme: Scheme, round: int) -> None:
        """Say which clients have lost their state. One without its keys is another party from now on."""
        nodes = {party: node for node, party in self.parties.items()}
        for party in lost:
            what = "state (a residual, or random numbers)" if scheme.key_exchange is None else "keys"
            log.warning("round %d: %s has lost its %s of earlier rounds", round, party, what)
            if scheme.key_exchange is not None:
                del self.parties[nodes[party]]
