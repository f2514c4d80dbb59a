"""The client's side: a mod around a training function, so that what leaves is what the scheme sends of it."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.app import Message as FlowerMessage

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.records import KEY, TURN, Begin
from gradwire.rounds import ClientRound
from gradwire.rounds.halves import sent_beside
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, Weights
from gradwire.wire import BUFFERS, SERVER, WEIGHTS, Message

NextCall = Callable[[FlowerMessage, Context], FlowerMessage]
log = logging.getLogger(__name__)


class SchemeMod:
    """A mod that sends a scheme's messages in place of the trained arrays.

    The update is old − new arrays. The context's state keeps the round's session between two messages, and the last
    answer: a message that is delivered twice gets it again, and nothing is trained or drawn twice. A message that is
    late or corrupted is an error, and the state stays as it is.

    Args:
        scheme: a scheme or its spec. The server must run the same: nothing is sent to one that does not.
        parameters: names of the arrays that go through it; nothing is sent to a server that names others. By default
            the server's word is taken.
        secret: what the client's own random numbers come from; by default the operating system's.

    Raises:
        GradwireError: a scheme that does not run over Flower.
    """

    def __init__(self, scheme: str | Scheme, parameters: Sequence[str] | None = None, secret: int | None = None):
        self.scheme = records.chosen(scheme, None)
        self.parameters, self.secret = parameters, secret

    def __call__(self, message: FlowerMessage, context: Context, call_next: NextCall) -> FlowerMessage:
        """Begin a round, go on with one, or let pass what is no training."""
        record = message.content.config_records.get(KEY)
        if record is None:
            if message.metadata.message_type.split(".")[0] == "train":
                raise GradwireError(f"the server asks for plain arrays; this client sends only {self.scheme.spec}")
            return call_next(message, context)
        kept = context.state.config_records.get(KEY, {})
        run, turn = (record.get(name) for name in TURN)
        if not (isinstance(run, str) and isinstance(turn, int)):
            raise WireError(f"a record names turn {turn} of run {run}; a number and a name are due")
        last = kept.get("turn", -1) if kept.get("run") == run else -1
        saved = {name: each for name, each in context.state.items() if name.startswith(f"{KEY}/")}
        if turn == last:
            answer = RecordDict({name.removeprefix(f"{KEY}/"): each for name, each in saved.items()})
            return FlowerMessage(answer, reply_to=message)
        rest, waits = dict[str, Any](), False
        if "scheme" in record:
            begin = self._begin(record)
            if turn < last:
                raise WireError(f"round {begin.round} begins late, by turn {turn}: this client stands at {last}")
            session, reply = self._train(begin, kept if last >= 0 else {}, message, context, call_next)
            if session is None:
                return reply
            # What the training function says beside its arrays, such as its loss and its number of examples, stays.
            rest = {name: each for name, each in reply.content.items() if not isinstance(each, ArrayRecord)}
            waits = bool(begin.weighted_by) and not begin.examples
        elif turn != last + 1 or "session" not in kept:
            raise WireError(f"turn {turn} of run {run} is not due: this client stands at {last}")
        else:
            session = ClientRound.load(kept["session"])
            if "examples" in record:
                brought = replace(session.brought, weight=session.brought.weight / float(record["examples"]))
                session = ClientRound(session.scheme, session.party, brought, session.public, session.round)
            else:
                session.session.answer(records.read(record.get("message")))
        settled = None if waits else session.settled
        says = {"settled": settled is not None, **({} if waits else _messages(session))}
        answer = RecordDict({KEY: ConfigRecord({"run": run, "turn": turn, **says}), **rest})
        state = {"session": session.save()} if settled is None else {"private": records.pack(settled)}
        for name in saved:
            del context.state[name]
        context.state[KEY] = ConfigRecord({"run": run, "turn": turn, **state})
        context.state.update({f"{KEY}/{name}": each for name, each in answer.items()})
        return FlowerMessage(answer, reply_to=message)

    def _begin(self, record: ConfigRecord) -> Begin:
        """What the server tells, if this client goes along with it."""
        try:
            begin = Begin(**{name: record[name] for name in Begin.__annotations__})
        except KeyError as error:
            raise WireError(f"the beginning of a round lacks {error}") from None
        if begin.scheme != self.scheme.spec:
            raise GradwireError(f"the server runs scheme {begin.scheme!r}; this client's is {self.scheme.spec!r}")
        records.chosen(self.scheme, begin.weighted_by)
        if self.parameters is not None and set(self.parameters) != set(begin.parameters):
            raise GradwireError(f"the server names parameters {begin.parameters}; this client's are {self.parameters}")
        return begin

    def _train(
        self,
        begin: Begin,
        kept: Mapping[str, Any],
        message: FlowerMessage,
        context: Context,
        call_next: NextCall,
    ) -> tuple[ClientRound | None, FlowerMessage]:
        """The session of a round, begun with what training has changed, and training's reply; None where it failed."""
        public, private = records.read(begin.public).tensors, _private(kept)
        before = records.arrays_of(message.content)[1].to_torch_state_dict()
        start = records.pick(before, begin.parameters)
        del message.content[KEY]
        reply = call_next(message, context)
        if reply.has_error():
            return None, reply
        after = records.arrays_of(reply.content)[1].to_torch_state_dict()
        records.check_arrays(after, before, "the trained")
        for name in before:
            if name not in (*begin.parameters, *begin.buffers) and not torch.equal(before[name], after[name]):
                raise GradwireError(f"training changed {name!r}, which is frozen in the server's model")
        update = {name: start[name] - after[name] for name in begin.parameters}
        layout = Layout.of(update)
        layout.check(update)
        if private is None:
            private = self.scheme.private_state(layout, secrets.randbits(63) if self.secret is None else self.secret)
        weight = (
            records.examples_of(reply.content, begin.weighted_by) / (begin.examples or 1) if begin.weighted_by else 1.0
        )
        brought = Contribution(update, private, records.pick(after, begin.buffers), weight)
        weights: Weights = "told" if begin.weighted_by else "equal"
        round = Round(begin.round, tuple(begin.clients), begin.seed, layout, start=start, weights=weights)
        return ClientRound(self.scheme, begin.party, brought, public, round), reply


def _messages(session: ClientRound) -> dict[str, bytes]:
    """What a client sends: a message, and with its first one those that go beside it; nothing where it is done."""
    sending = session.session.sending
    if sending is None or sending.phase in (WEIGHTS, BUFFERS):
        return {}
    beside = () if session.session.replies else sent_beside(session.brought, session.round)
    return {
        name: bytes(Message(session.party, SERVER, session.round.index, send.phase, send.tensors).encode())
        for name, send in (("message", sending), *((send.phase, send) for send in beside))
    }


def _private(kept: Mapping[str, Any]) -> State | None:
    """The state that a client goes into a round with; None where it is its first."""
    if "session" not in kept:
        return records.read(kept["private"]).tensors if kept else None
    session = ClientRound.load(kept["session"])
    log.warning("round %d ended without its last reply; this client goes on as before it", session.round.index)
    return session.session.settled or session.brought.private
