"""One round on the server: a session that clients' answers drive from the beginning to the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from flwr.app import Message as FlowerMessage

from gradwire.errors import TooFewError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.questions import Delivered, Parts, Questions
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
        counts: what the metric is of each client.
        ended: clients that had nothing more to say to the last question.
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
    counts: dict[str, float] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def play(self, begins: Mapping[str, Parts]) -> tuple[Outcome | None, dict[str, FlowerMessage]]:
        """Drive the session to its end: the outcome, and the clients' replies to the strategy's message.

        Without an outcome the round has failed, and every client is dropped with the reason.
        """
        began = self.questions.ask(begins, self._begun, begin=True)
        try:
            return self._drive(began), began.replies
        except WireError as error:
            for party in self.session.parties:
                self.session.drop(party, str(error))
        return None, began.replies

    def _drive(self, answers: Delivered[bool]) -> Outcome:
        """The outcome, from the clients' first answers on; WireError where the round cannot be finished."""
        session, ask = self.session, self.questions.ask
        self._drop(answers.failed)
        if self.counts and not self.examples:
            self.examples = fmean(self.counts.values())
            told: dict[str, Parts] = {party: ({"examples": self.examples}, {}) for party in session.parties}
            answers = ask(told, partial(self._received, self._beside))
            self._drop(answers.failed)
        while True:
            unsettled = [party for party in session.parties if answers.taken[party]]
            replies = session.close(send=bool(unsettled))
            for message, to in replies if self.opened else ():
                for party in to:
                    self.replies.setdefault(party, {})[message.phase] = message.tensors
            if not unsettled:
                self.unsent = [message for message, _ in replies]
                break
            told = {}
            for message, to in replies:
                data = message.frozen()
                told |= {party: ({}, {"message": data}) for party in to if party in unsettled}
            self.ended.clear()
            answers = ask(told, partial(self._received, ()))
            if not answers.taken:
                raise TooFewError(f"round {session.round}: no client has answered turn {self.questions.turn}")
            # A client that is lost after its last message is in the mean: nothing more is due of it.
            if 2 * len(self.ended) >= len(answers.taken):
                break
            self._drop(answers.failed | dict.fromkeys(self.ended, "it has sent nothing where others did"))
        outcome = session.finish()
        self._drop(outcome.refused)
        if self.counts and session.parties:
            self.examples = fmean(self.counts[party] for party in session.parties)
        return outcome

    @property
    def _beside(self) -> tuple[str, ...]:
        """What comes beside a client's first message."""
        return (*((WEIGHTS,) if self.metric else ()), *((BUFFERS,) if self.buffers else ()))

    def _drop(self, reasons: Mapping[str, str]) -> None:
        for party, why in reasons.items():
            self.session.drop(party, why)

    def _begun(self, party: str, reply: FlowerMessage) -> bool:
        """Take a client's first answer; whether a reply is due to it."""
        facts = facts_of(reply)
        if facts.get("lost") is True:
            self.lost.add(party)
            if "settled" not in facts:
                raise WireError("it has lost its keys, and is enrolled anew in its next round")
        if self.metric:
            self.counts[party] = records.examples_of(reply.content, self.metric)
            if not self.examples:
                return True
        return self._received(self._beside, party, reply)

    def _received(self, beside: Sequence[str], party: str, reply: FlowerMessage) -> bool:
        """Let the session take in a client's message, and what comes beside it; whether a reply is due to it."""
        if not beside and records.payload_of(reply.content, "message") is None:
            self.ended.add(party)
            return False
        # Its message last: with that it is in the mean.
        for name in (*beside, "message"):
            message = records.read(reply.content, name)
            if name not in ("message", message.phase):
                raise WireError(f"got {message.name} as {name!r}")
            if self.session.receive(party, message, early=name != "message") and self.opened:
                self.sent.setdefault(party, {})[message.phase] = message.tensors
        return facts_of(reply).get("settled") is not True
