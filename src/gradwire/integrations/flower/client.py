"""The client's side: a mod around a training function, so that what leaves is what the scheme sends of it."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.app import Message as FlowerMessage

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower.records import (
    KEY,
    Begin,
    Turn,
    arrays_of,
    check_arrays,
    chosen,
    pack,
    pick,
    read,
    record_of,
)
from gradwire.rounds import ClientRound
from gradwire.rounds.halves import sent_beside
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, Weights
from gradwire.wire import BUFFERS, SERVER, WEIGHTS, Message

NextCall = Callable[[FlowerMessage, Context], FlowerMessage]
log = logging.getLogger(__name__)


class SchemeMod:
    """A mod that sends a scheme's messages in place of the trained arrays.

    The update is old − new arrays. The context's state keeps the round's session between two messages, and the last
    answer, so that a message that is delivered twice gets it again: nothing is trained or drawn twice. A message that
    is late or corrupted is an error, and the state stays as it is.

    Args:
        scheme: a scheme or its spec. The server must run the same: nothing is sent to one that does not.
        parameters: names of the arrays that go through it; nothing is sent to a server that names others. By default
            the server's word is taken.
        secret: what the client's own random numbers come from; by default the operating system's. For tests: two runs
            with one secret draw alike.

    Raises:
        GradwireError: a scheme that does not run over Flower.
    """

    def __init__(self, scheme: str | Scheme, parameters: Sequence[str] | None = None, secret: int | None = None):
        self.scheme = chosen(scheme, None)
        self.parameters = parameters
        self.secret = secret

    def __call__(self, message: FlowerMessage, context: Context, call_next: NextCall) -> FlowerMessage:
        """Begin a round, go on with one, or let pass what is no training."""
        record = record_of(message.content)
        if record is None:
            if message.metadata.message_type.split(".")[0] == "train":
                raise GradwireError(f"the server asks for plain arrays; this client sends only {self.scheme.spec}")
            return call_next(message, context)
        kept = context.state.config_records.get(KEY, ConfigRecord())
        turn, last = Turn.of(record), Turn.of(kept) if kept else Turn("", -1, 0)
        if turn == last:
            names = [name for name in context.state if name.startswith(f"{KEY}/")]
            answer = RecordDict({name.removeprefix(f"{KEY}/"): context.state[name] for name in names})
            return FlowerMessage(answer, reply_to=message)
        rest, asked = dict[str, Any](), False
        if "begin" in record:
            if turn.run == last.run and turn < last:
                raise WireError(f"round {turn.round} begins late: this client stands in round {last.round}")
            begin = Begin.read(str(record["begin"]))
            public, private = read(record["public"]).tensors, _private(kept) if turn.run == last.run else None
            reply, session = self._train(message, context, call_next, begin, turn.round, public, private)
            if session is None:
                return reply
            # What the training function says beside its arrays, such as its loss and its number of examples, stays.
            rest = {name: each for name, each in reply.content.items() if not isinstance(each, ArrayRecord)}
            asked = begin.weighted_by is not None and begin.examples is None
        elif turn != last._replace(turn=last.turn + 1) or "session" not in kept:
            raise WireError(
                f"turn {turn.turn} of round {turn.round} is not due: this client stands at {tuple(last[1:])}"
            )
        else:
            session = ClientRound.load(kept["session"])
            if "examples" in record:
                weight = session.brought.weight / _positive(record["examples"], "mean of examples")
                brought = replace(session.brought, weight=weight)
                session = ClientRound(session.scheme, session.party, brought, session.public, session.round)
            else:
                session.session.answer(read(record.get("message")))
        settled = None if asked else session.settled
        says = {"examples": session.brought.weight} if asked else _says(session, settled is not None)
        answer = RecordDict({KEY: ConfigRecord({**turn._asdict(), **says}), **rest})
        state = {"session": session.save()} if settled is None else {"private": pack(settled)}
        for name in [name for name in context.state if name.startswith(f"{KEY}/")]:
            del context.state[name]
        context.state[KEY] = ConfigRecord({**turn._asdict(), **state})
        for name, each in answer.items():
            context.state[f"{KEY}/{name}"] = each
        return FlowerMessage(answer, reply_to=message)

    def _train(
        self,
        message: FlowerMessage,
        context: Context,
        call_next: NextCall,
        begin: Begin,
        number: int,
        public: State,
        private: State | None,
    ) -> tuple[FlowerMessage, ClientRound | None]:
        """Train, and what the client goes into the round with; None where training failed."""
        if begin.scheme != self.scheme.spec:
            raise GradwireError(f"the server runs scheme {begin.scheme!r}; this client's is {self.scheme.spec!r}")
        chosen(self.scheme, begin.weighted_by)
        if self.parameters is not None and set(self.parameters) != set(begin.parameters):
            raise GradwireError(f"the server names parameters {begin.parameters}; this client's are {self.parameters}")
        before = dict(arrays_of(message.content)[1].to_torch_state_dict())
        start = pick(before, begin.parameters)
        del message.content[KEY]
        reply = call_next(message, context)
        if reply.has_error():
            return reply, None
        after = dict(arrays_of(reply.content)[1].to_torch_state_dict())
        check_arrays(after, before, "trained arrays")
        for name in before:
            if name not in (*begin.parameters, *begin.buffers) and not torch.equal(before[name], after[name]):
                raise GradwireError(
                    f"training changed {name!r}, which the server's model neither trains nor keeps count in"
                )
        update = {name: start[name] - after[name] for name in begin.parameters}
        layout = Layout.of(update)
        layout.check(update)
        if private is None:
            secret = secrets.randbits(63) if self.secret is None else self.secret
            private = self.scheme.private_state(layout, secret)
        weight = 1.0
        if begin.weighted_by is not None:
            found = [
                each[begin.weighted_by] for each in reply.content.metric_records.values() if begin.weighted_by in each
            ]
            weight = _positive(found[0] if found else None, f"metric {begin.weighted_by!r}") / (begin.examples or 1)
        brought = Contribution(update, private, pick(after, begin.buffers), weight)
        weights: Weights = "told" if begin.weighted_by is not None else "equal"
        round = Round(number, begin.clients, begin.seed, layout, start=start, weights=weights)
        return reply, ClientRound(self.scheme, begin.party, brought, public, round)


def _says(session: ClientRound, settled: bool) -> dict[str, bytes | bool]:
    """A client's message, and with its first one what goes beside it; nothing but `settled` where it is done."""
    sending = session.session.sending
    if sending is None or sending.phase in (WEIGHTS, BUFFERS):
        return {"settled": settled}
    sends = {"message": sending}
    if not session.session.replies:
        sends |= {send.phase: send for send in sent_beside(session.brought, session.round)}
    messages = {
        name: Message(session.party, SERVER, session.round.index, send.phase, send.tensors)
        for name, send in sends.items()
    }
    return {name: bytes(message.encode()) for name, message in messages.items()} | {"settled": settled}


def _private(kept: Mapping[str, Any]) -> State:
    """The state that a client goes into its next round with."""
    if "private" in kept:
        return read(kept["private"]).tensors
    session = ClientRound.load(kept["session"])
    log.warning("round %d ended without its last reply; this client goes on as before it", session.round.index)
    return session.session.settled or session.brought.private


def _positive(value: object, what: str) -> float:
    if not isinstance(value, int | float) or not 0 < value < inf:
        raise GradwireError(f"{what} is {value}; clients are weighted by it: a positive number is due")
    return float(value)
