"""The client's side: a mod around a training function, so that what leaves is what the scheme sends of it."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.app import Message as FlowerMessage
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower import records
from gradwire.integrations.flower.kept import Kept
from gradwire.integrations.flower.records import KEY, PAYLOAD, TURN, Begin
from gradwire.integrations.flower.steps import Hand, hand
from gradwire.rounds import ClientRound
from gradwire.rounds.halves import sent_beside
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, Weights
from gradwire.schemes.halves import joined, under
from gradwire.seeds import number
from gradwire.wire import BUFFERS, SERVER, WEIGHTS, Message, Need

NextCall = Callable[[FlowerMessage, Context], FlowerMessage]
Payload = dict[str, bytes]


class SchemeMod:
    """A mod that sends a scheme's messages in place of the trained arrays.

    The update is old − new arrays. The context's state keeps the round's session between two messages, and the last
    answer: a message that is delivered twice gets it again, and nothing is trained or drawn twice. A scheme without
    state (none) keeps no answers either: there a second delivery is an error. A message that is late or corrupted is an
    error, and the state stays as it is. Mods that change what training made (Flower's
    `LocalDpMod`, `fixedclipping_mod`) stand behind this one: `mods=[SchemeMod(…), LocalDpMod(…)]`. Before it they
    find no arrays and refuse.

    Args:
        scheme: a scheme or its spec. The server must run the same: nothing is sent to one that does not. Where it has a
            hand in training or trains a network of its own, the training function needs the lines of `steps`. A
            function of the context says it later: from the run's config, which whoever starts a run decides, or from
            the node's, which its owner does.
        parameters: names of the arrays that go through it; nothing is sent to a server that names others. By default
            the server's word is taken.
        secret: for tests and simulations: what the random numbers of this node in this run come from. By default the
            operating system's.
    """

    def __init__(
        self,
        scheme: str | Scheme | Callable[[Context], str],
        parameters: Sequence[str] | None = None,
        secret: int | None = None,
    ):
        self._said = scheme if callable(scheme) else None
        self.scheme = records.chosen("none" if callable(scheme) else scheme, None)
        self.parameters, self.secret = parameters, secret

    def __call__(self, message: FlowerMessage, context: Context, call_next: NextCall) -> FlowerMessage:
        """Begin a round, go on with one, or let pass what is no training."""
        if self._said is not None:
            return SchemeMod(self._said(context), self.parameters, self.secret)(message, context, call_next)
        record = message.content.config_records.get(KEY)
        if record is None:
            if message.metadata.message_type.split(".")[0] == "train":
                raise GradwireError(f"the server asks for plain arrays; this client sends only {self.scheme.spec}")
            return call_next(message, context)
        run, turn = (record.get(name) for name in TURN)
        if not (isinstance(run, str) and isinstance(turn, int)):
            raise WireError(f"a record names turn {turn} of run {run}; a number and a name are due")
        kept = Kept.of(context.state, run, self._drawn(context))
        if turn == kept.turn:
            if not kept.answer:
                raise WireError(f"turn {turn} of run {run} has been answered; {self.scheme.spec} keeps no answers")
            return FlowerMessage(kept.answer, reply_to=message)
        begin = self._begin(record) if "scheme" in record else None
        if begin is not None and turn < kept.turn:
            raise WireError(f"round {begin.round} begins late, by turn {turn}: this client stands at {kept.turn}")
        if begin is None:
            if turn != kept.turn + 1 or kept.session is None:
                raise WireError(f"turn {turn} of run {run} is not due: this client stands at {kept.turn}")
            rest: dict[str, Any] = {}
            says, payload = self._continued(record, message, kept)
        elif "layout" in record:
            rest = {}
            says, payload = self._enrolled(records.layout_of(record["layout"]), kept)
        else:
            found = self._began(begin, message, context, kept, call_next)
            if isinstance(found, FlowerMessage):
                return found
            rest, says, payload = found
        kept.turn = turn
        kept.answer = RecordDict({**records.packed({"run": run, "turn": turn, **says}, payload), **rest})
        kept.store(context.state)
        return FlowerMessage(kept.answer, reply_to=message)

    def _drawn(self, context: Context) -> int:
        """A secret that no other node and no other run has."""
        if self.secret is None:
            return secrets.randbits(63)
        return number("flower", self.secret, context.run_id, context.node_id)

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

    def _enrolled(self, layout: Layout, kept: Kept) -> tuple[dict[str, Any], Payload]:
        """The answer to a server that asks for public keys before the client's first round."""
        exchange = self.scheme.key_exchange
        if exchange is None:
            raise WireError(f"the server asks for keys; {self.scheme.spec} has none")
        if kept.private is None:
            kept.private = self.scheme.private_state(layout, kept.secret)
        return {}, {"keys": records.pack(exchange.public_keys(kept.private))}

    def _began(
        self, begin: Begin, message: FlowerMessage, context: Context, kept: Kept, call_next: NextCall
    ) -> tuple[dict[str, Any], dict[str, Any], Payload] | FlowerMessage:
        """What goes back as a round begins: training's own records, facts, messages. Its reply where it failed."""
        private, exchange = kept.before_round(), self.scheme.key_exchange
        lost = private is None and begin.met > 0
        if exchange is not None:
            if private is None:
                return {}, {"lost": True}, {}
            told = records.unpack(records.payload_of(message.content, "keys"))
            kept.tell(joined({begin.party: exchange.public_keys(private)}))
            kept.tell(told)
            private = exchange.with_keys(private, begin.party, _by_party(told))
        public = records.unpack(records.payload_of(message.content, "public"))
        before = records.arrays_of(message.content)[1].to_torch_state_dict()
        start = records.pick(before, begin.parameters)
        layout = Layout.of(start)
        if private is None:
            private = self.scheme.private_state(layout, kept.secret)
        weights: Weights = "told" if begin.weighted_by else "equal"
        round = Round(begin.round, tuple(begin.clients), begin.seed, layout, begin.epoch, start, weights)
        message.content = RecordDict({n: each for n, each in message.content.items() if n not in (KEY, PAYLOAD)})
        order = number("order", kept.secret)
        with hand(Hand(self.scheme, begin.party, private, round, begin.lr, kept.passes, order)) as lent:
            reply = call_next(message, context)
        if reply.has_error():
            return reply
        after = records.arrays_of(reply.content)[1].to_torch_state_dict()
        records.check_arrays(after, before, "the trained")
        for name in before:
            if name not in (*begin.parameters, *begin.buffers) and not before[name].equal(after[name]):
                raise GradwireError(f"training changed {name!r}, which is frozen in the server's model")
        lent.check(after)
        if lent.brought is None:
            update = layout.difference(start, after)
        else:
            update, private = {name: lent.brought.update[name] for name in begin.parameters}, lent.brought.private
        layout.check(update)
        kept.passes = lent.passes
        weight = 1.0
        if begin.weighted_by:
            weight = records.examples_of(reply.content, begin.weighted_by) / (begin.examples or 1)
        brought = Contribution(update, private, records.pick(after, begin.buffers), weight)
        if Need.LOCAL_UPDATE not in self.scheme.needs:
            # Where no half needs it, a session does not keep a model more. Nothing but masks is bound to what it was.
            round = replace(round, start=None) if exchange is None else round.without_start()
        session = ClientRound(self.scheme, begin.party, brought, public, round)
        waits = bool(begin.weighted_by) and not begin.examples
        says, payload = self._sent(session, kept, waits)
        # What the training function says beside its arrays, such as its loss and its number of examples, stays.
        rest = {name: each for name, each in reply.content.items() if not isinstance(each, ArrayRecord)}
        return rest, says | ({"lost": True} if lost else {}), payload

    def _continued(self, record: ConfigRecord, message: FlowerMessage, kept: Kept) -> tuple[dict[str, Any], Payload]:
        """What goes back as a round goes on."""
        assert kept.session is not None
        session = ClientRound.load(kept.session)
        if "examples" in record:
            brought = replace(session.brought, weight=session.brought.weight / float(str(record["examples"])))
            session = ClientRound(session.scheme, session.party, brought, session.public, session.round)
        else:
            session.session.answer(records.read(message.content, "message"))
        return self._sent(session, kept, False)

    def _sent(self, session: ClientRound, kept: Kept, waits: bool) -> tuple[dict[str, Any], Payload]:
        """What a session sends now, and what is kept of it."""
        sending = session.session.sending
        last = sending is None or records.last_word(self.scheme, sending.phase)
        settled = session.settled if last and not waits else None
        kept.private, kept.session = (None, session.save()) if settled is None else (settled, None)
        return {"settled": settled is not None}, {} if waits else _messages(session)


def _messages(session: ClientRound) -> Payload:
    """What a client sends: a message, and with its first one those that go beside it; nothing where it is done."""
    sending = session.session.sending
    if sending is None or sending.phase in (WEIGHTS, BUFFERS):
        return {}
    beside = () if session.session.replies else sent_beside(session.brought, session.round)
    return {
        name: Message(session.party, SERVER, session.round.index, send.phase, send.tensors).frozen()
        for name, send in (("message", sending), *((send.phase, send) for send in beside))
    }


def _by_party(keys: State) -> dict[str, dict[str, Tensor]]:
    """Keys as `party/name`, by party."""
    return {party: under(keys, party) for party in dict.fromkeys(name.partition("/")[0] for name in keys)}
