"""Questions to clients in turns over a Flower grid, and their answers."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

from flwr.app import Message as FlowerMessage
from flwr.app import RecordDict
from flwr.serverapp import Grid

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.records import PAYLOAD, TURN, facts_of

T = TypeVar("T")
ByParty = Mapping[str, FlowerMessage]
Parts = tuple[Mapping[str, Any], Mapping[str, bytes]]
"""gradwire's part of a message: facts, and messages' bytes."""
PAUSES = 0.1, 3.0
"""Seconds between two looks for answers: at first, and after a while."""
EVER = 1e9
"""Seconds that nothing takes."""
log = logging.getLogger(__name__)


@dataclass
class Delivered(Generic[T]):
    """What came of a question.

    Attributes:
        replies: party → its reply, without gradwire's messages.
        taken: party → what was taken of it.
        failed: party → why nothing was.
    """

    replies: dict[str, FlowerMessage] = field(default_factory=dict)
    taken: dict[str, T] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class Questions:
    """The clients of a round, and what they have been asked.

    Attributes:
        asked: party → the strategy's message to it.
        run: the grid's name for the run, and `turn`, the number of the last question.
        round: its number, for what is logged.
        deadline: on the monotonic clock, after which no answer is waited for.
        expected: questions that the round will take, as far as is known. A client that does not answer one of them
            leaves half of the time for the others; it is not asked again.
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

    def ask(
        self, told: Mapping[str, Parts], take: Callable[[str, FlowerMessage], T], begin: bool = False
    ) -> Delivered[T]:
        """Ask clients, and take their answers one by one as they come: no two of them are held at once.

        Args:
            take: what is to be had of an answer; a GradwireError says why there is nothing.
            begin: whether the strategy's own content goes with the question.
        """
        self.turn, self.put = self.turn + 1, self.put + 1
        turn = dict(zip(TURN, (self.run, self.turn), strict=True))
        messages = []
        for party, (facts, payload) in told.items():
            to, given = self.asked[party].metadata, self.asked[party].content if begin else {}
            content = RecordDict({**given, **records.packed({**turn, **facts}, payload)})
            messages.append(FlowerMessage(content, to.dst_node_id, to.message_type, ttl=to.ttl, group_id=to.group_id))
        end = monotonic() + self._patience()
        waiting = dict(zip(self.inner.push_messages(messages), told, strict=False))
        del messages
        found, pause = Delivered[T](), PAUSES[0]
        while True:
            for number, due in list(waiting.items()):
                for reply in self.inner.pull_messages([number]):
                    waiting.pop(number, None)
                    self._heard(reply, due, told, turn, take, found)
            if not waiting or monotonic() >= end:
                break
            sleep(pause)
            pause = min(pause * 1.5, PAUSES[1])
        for party in told:
            if party not in found.replies:
                found.failed[party] = "it has not answered"
        return found

    def _heard(
        self,
        reply: FlowerMessage,
        due: str,
        told: Mapping[str, Parts],
        turn: Mapping[str, Any],
        take: Callable[[str, FlowerMessage], T],
        found: Delivered[T],
    ) -> None:
        """Take one answer. What is late, doubled or unasked is passed over."""
        node, record = reply.metadata.src_node_id, facts_of(reply)
        parties = {message.metadata.dst_node_id: party for party, message in self.asked.items()}
        # Flower itself answers for a node that cannot.
        party = parties.get(node, due if reply.has_error() else "")
        late = record and {name: record.get(name) for name in TURN} != turn
        if late or party in found.replies or party not in told:
            why = "late" if late else "a second one" if party in found.replies else "of a node that was not asked"
            log.warning("round %d: passed over a reply of node %d: it is %s", self.round, node, why)
            return
        found.replies[party] = reply
        try:
            if reply.has_error():
                raise WireError(reply.error.reason)
            if not record:
                raise WireError("it sent no record of gradwire's")
            found.taken[party] = take(party, reply)
        except GradwireError as error:
            found.failed[party] = str(error)
        if reply.has_content():
            reply.content.pop(PAYLOAD, None)

    def _patience(self) -> float:
        """Seconds to wait for the answers to the present question."""
        if self.deadline is None:
            return EVER
        left, due = max(0.0, self.deadline - monotonic()), self.expected - self.put + 1
        return left if due <= 1 else left / 2
