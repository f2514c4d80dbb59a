"""One round on the server: a session that clients' answers drive from the beginning to the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from flwr.app import Message as FlowerMessage

from gradwire.errors import TooFewError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.questions import ByParty, Parts, Questions, taken
from gradwire.integrations.flower.records import facts_of
from gradwire.schemes import Outcome
from gradwire.wire import BUFFERS, WEIGHTS, Message, ServerSession, Tensors


@dataclass
class ServedRound:
    """A round's session, and what it takes to drive it.

    Attributes:
        metric: what weighs clients; None where they count alike.
        buffers: whether running statistics come beside the scheme's messages.
        examples: the mean of the metric; None while it is not known.
        opened: whether to keep what clients send, and the server replies, in `sent` and `replies`: phase → tensors of
            each client.
        unsent: the server's last replies, which clients do not need: they get the model by the next round.
        lost: clients that say they have lost their state.
    """

    session: ServerSession[Outcome]
    questions: Questions
    metric: str | None
    buffers: bool
    examples: float | None
    opened: bool = False
    sent: dict[str, dict[str, Tensors]] = field(default_factory=dict)
    replies: dict[str, dict[str, Tensors]] = field(default_factory=dict)
    unsent: list[Message] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def play(self, begins: Mapping[str, Parts]) -> tuple[Outcome | None, dict[str, FlowerMessage]]:
        """Drive the session to its end: the outcome, and the clients' replies to the strategy's message.

        Without an outcome the round has failed, and every client is dropped with the reason.
        """
        replies = self.questions.ask(begins, begin=True)
        try:
            return self._drive(replies), replies
        except WireError as error:
            for party in self.session.parties:
                self.session.drop(party, str(error))
        return None, replies

    def _drive(self, replies: ByParty) -> Outcome:
        """The outcome, from the clients' first answers on; WireError where the round cannot be finished."""
        session, metric, ask = self.session, self.metric, self.questions.ask
        for party, reply in replies.items():
            if facts_of(reply).get("lost") is True:
                self.lost.add(party)
                if "settled" not in facts_of(reply):
                    session.drop(party, "it has lost its keys, and is enrolled anew in its next round")
        counts: dict[str, float] = {}
        if metric:
            counts = taken(
                replies, session.parties, lambda _, reply: records.examples_of(reply.content, metric), session.drop
            )
            if counts and not self.examples:
                self.examples = fmean(counts.values())
                replies = ask({party: ({"examples": self.examples}, {}) for party in counts})
        beside = [WEIGHTS] * bool(metric) + [BUFFERS] * self.buffers
        while True:
            waits = taken(replies, session.parties, partial(self._received, ("message", *beside)), session.drop)
            unsettled = [party for party in session.parties if waits[party]]
            answers = session.close(send=bool(unsettled))
            for message, to in answers if self.opened else ():
                for party in to:
                    self.replies.setdefault(party, {})[message.phase] = message.tensors
            if not unsettled:
                self.unsent = [message for message, _ in answers]
                break
            told = {party: bytes(message.encode()) for message, to in answers for party in to if party in unsettled}
            replies = ask({party: ({}, {"message": data}) for party, data in told.items()})
            came = [reply.content for reply in replies.values() if not reply.has_error()]
            if not came:
                raise TooFewError(f"round {session.round}: no client has answered turn {self.questions.turn}")
            # A client that is lost after its last message is in the mean: nothing more is due of it.
            if 2 * sum(records.payload_of(content, "message") is not None for content in came) <= len(came):
                break
            beside = []
        outcome = session.finish()
        for party, why in outcome.refused.items():
            session.drop(party, why)
        if counts and session.parties:
            self.examples = fmean(counts[party] for party in session.parties)
        return outcome

    def _received(self, names: Sequence[str], party: str, reply: FlowerMessage) -> bool:
        """Let the session take in a client's message, and what came beside it; whether a reply is due to it."""
        for name in names:
            message = records.read(reply.content, name)
            if name not in ("message", message.phase):
                raise WireError(f"got {message.name} as {name!r}")
            if self.session.receive(party, message, early=name != "message") and self.opened:
                self.sent.setdefault(party, {})[message.phase] = message.tensors
        return facts_of(reply).get("settled") is not True
