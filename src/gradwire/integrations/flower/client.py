"""The client's side: a mod around a training function, so that what leaves is what the scheme sends of it."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flwr.app import ConfigRecord, Context, RecordDict
from flwr.app import Message as FlowerMessage

from gradwire.errors import GradwireError
from gradwire.integrations.flower.records import (
    BUFFERS,
    KEY,
    Begin,
    arrays_of,
    chosen,
    pack,
    read,
    record_of,
    split,
    tensors_of,
    unpack,
)
from gradwire.schemes import Layout, Outcome, Round, Scheme, Update
from gradwire.wire import SERVER, ClientHalf, Message, Send, Tensors

NextCall = Callable[[FlowerMessage, Context], FlowerMessage]


class SchemeMod:
    """A mod that sends a scheme's messages in place of the trained arrays.

    The update is old − new arrays. Flower runs a client anew for every message: what a phase needs of those before it,
    the update and the replies, waits in the context's state, and the client's half is played again from there.

    Args:
        scheme: a scheme or its spec. The server must run the same: nothing is sent to one that does not.
        parameters: names of the arrays that go through it, by default all of floating point; the others are averaged.
        secret: what the client's own random numbers come from; by default the operating system's.

    Raises:
        GradwireError: a scheme that does not run over Flower.
    """

    def __init__(self, scheme: str | Scheme, parameters: Sequence[str] | None = None, secret: int | None = None):
        self.scheme = chosen(scheme)
        self.parameters = parameters
        self.secret = secret

    def __call__(self, message: FlowerMessage, context: Context, call_next: NextCall) -> FlowerMessage:
        """Begin a round, go on with one, or let pass what is no training."""
        record = record_of(message.content)
        if record is None:
            if message.metadata.message_type.split(".")[0] == "train":
                raise GradwireError(f"the server asks for plain arrays; this client sends only {self.scheme.spec}")
            return call_next(message, context)
        kept: dict[str, Any] = dict(context.state.config_records.get(KEY, {}))
        if "begin" in record:
            return self._begin(message, context, call_next, kept)
        if "begin" not in kept:
            raise GradwireError("the server goes on with a round that this client has not begun")
        return self._go_on(message, context, {**kept, "replies": [*kept["replies"], record["message"]]})

    def _begin(
        self, message: FlowerMessage, context: Context, call_next: NextCall, kept: dict[str, Any]
    ) -> FlowerMessage:
        """Train, and send the first message of what it changed."""
        record = message.content.config_records[KEY]
        begin = Begin.read(str(record["begin"]))
        if begin.scheme != self.scheme.spec:
            raise GradwireError(f"the server runs scheme {begin.scheme!r}; this client's is {self.scheme.spec!r}")
        before = tensors_of(arrays_of(message.content)[1])
        names, others = split(before, self.parameters)
        del message.content[KEY]
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        key, trained = arrays_of(reply.content)
        after = tensors_of(trained)
        update = {name: before[name] - after[name] for name in names}
        layout = Layout.of(update)
        layout.check(update)
        if "private" not in kept:
            secret = secrets.randbits(63) if self.secret is None else self.secret
            kept["private"] = pack(self.scheme.private_state(layout, secret))
        start = pack({name: before[name] for name in names})
        # A packed state forgets the order of its tensors, and the layout is made of it.
        kept |= {"begin": begin.text(), "public": record["public"], "names": names}
        kept |= {"update": pack(update), "start": start}
        beside = Message(begin.party, SERVER, begin.round, BUFFERS, {name: after[name] for name in others})
        sent = self._go_on(message, context, {**kept, "replies": []}, {BUFFERS: bytes(beside.encode())})
        # What the training function says beside its arrays, such as its loss and its number of examples, stays.
        for name, other in reply.content.items():
            if name != key:
                sent.content[name] = other
        return sent

    def _go_on(
        self, message: FlowerMessage, context: Context, kept: dict[str, Any], beside: Mapping[str, bytes] | None = None
    ) -> FlowerMessage:
        """Play the half up to where the replies lead, and send what comes then, or say that it is done."""
        begin = Begin.read(str(kept["begin"]))
        update, start = (_ordered(unpack(kept[part]), kept["names"]) for part in ("update", "start"))
        round = Round(begin.round, begin.clients, begin.seed, Layout.of(update), start=start)
        half = self.scheme.client(update, unpack(kept["private"]), unpack(kept["public"]), round)
        reached = _replay(half, [read(data).tensors for data in kept["replies"]])
        if isinstance(reached, Outcome):
            context.state[KEY] = ConfigRecord({"private": pack(reached.private)})
            return FlowerMessage(RecordDict({KEY: ConfigRecord({"done": True})}), reply_to=message)
        context.state[KEY] = ConfigRecord(kept)
        data = Message(begin.party, SERVER, begin.round, reached.phase, reached.tensors).encode()
        return FlowerMessage(
            RecordDict({KEY: ConfigRecord({"message": bytes(data), **(beside or {})})}), reply_to=message
        )


def _ordered(tensors: Tensors, names: Sequence[str]) -> Update:
    return {name: tensors[name] for name in names}


def _replay(half: ClientHalf[Outcome], replies: Sequence[Tensors]) -> Send | Outcome:
    """What a half sends after these replies, or what it returns."""
    try:
        send = next(half)
        for tensors in replies:
            send = half.send(tensors)
    except StopIteration as stop:
        return stop.value
    return send
