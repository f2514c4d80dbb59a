"""Questions to clients in turns over a Flower grid, and their answers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from flwr.app import Message as FlowerMessage
from flwr.app import RecordDict
from flwr.serverapp import Grid

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.records import TURN, facts_of

T = TypeVar("T")
ByParty = Mapping[str, FlowerMessage]
Parts = tuple[Mapping[str, Any], Mapping[str, bytes]]
"""gradwire's part of a message: facts, and messages' bytes."""
log = logging.getLogger(__name__)


@dataclass
class Questions:
    """The clients of a round, and what they have been asked.

    Attributes:
        asked: party → the strategy's message to it.
        run: the grid's name for the run, and `turn`, the number of the last question.
        round: its number, for what is logged.
        deadline: on the monotonic clock, after which no answer is waited for.
        expected: questions that the round will take, as far as is known. A client that does not answer one of them
            must leave time for the others: training gets half of it, each other question a part.
        put: questions so far.
    """

    inner: Grid
    asked: ByParty
    run: str
    turn: int
    round: int
    deadline: float | None
    expected: int
    put: int = 0

    def ask(self, told: Mapping[str, Parts], begin: bool = False) -> dict[str, FlowerMessage]:
        """Ask clients; the answer of each, in the clients' order. What is late, doubled or unasked is passed over.

        Args:
            begin: whether the strategy's own content goes with it.
        """
        self.turn, self.put = self.turn + 1, self.put + 1
        turn = dict(zip(TURN, (self.run, self.turn), strict=True))
        messages = []
        for party, (facts, payload) in told.items():
            to, given = self.asked[party].metadata, self.asked[party].content if begin else {}
            content = RecordDict({**given, **records.packed({**turn, **facts}, payload)})
            messages.append(FlowerMessage(content, to.dst_node_id, to.message_type, ttl=to.ttl, group_id=to.group_id))
        parties = {message.metadata.dst_node_id: party for party, message in self.asked.items()}
        patience = self._patience(begin)
        got: dict[str, FlowerMessage] = {}
        for reply in self.inner.send_and_receive(messages, timeout=patience):
            node, record = reply.metadata.src_node_id, facts_of(reply)
            party, late = parties.get(node, ""), record and {name: record.get(name) for name in TURN} != turn
            if late or party in got or party not in told:
                why = "late" if late else "a second one" if party in got else "of a node that was not asked"
                log.warning("round %d: passed over a reply of node %d: it is %s", self.round, node, why)
            else:
                got[party] = reply
        return {party: got[party] for party in told if party in got}

    def _patience(self, training: bool) -> float | None:
        """Seconds to wait for the answers to the present question."""
        if self.deadline is None:
            return None
        left, due = max(0.0, self.deadline - monotonic()), self.expected - self.put + 1
        return left if due <= 1 else left / 2 if training else left / due


def taken(
    replies: ByParty,
    parties: Sequence[str],
    take: Callable[[str, FlowerMessage], T],
    drop: Callable[[str, str], None],
) -> dict[str, T]:
    """What is taken of each client's answer; `drop` is told of those whose answer cannot be taken, and why."""
    found = {}
    for party in parties:
        try:
            reply = replies.get(party)
            if reply is None or reply.has_error():
                raise WireError("it has not answered" if reply is None else reply.error.reason)
            if not facts_of(reply):
                raise WireError("it sent no record of gradwire's")
            found[party] = take(party, reply)
        except GradwireError as error:
            drop(party, str(error))
    return found
