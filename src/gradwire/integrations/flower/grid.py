"""The server's side: a grid that plays the scheme with the clients, and hands the strategy ordinary replies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid
from torch import Tensor

from gradwire.errors import WireError
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
)
from gradwire.schemes import Layout, Round, Scheme, Update
from gradwire.schemes.halves import mean
from gradwire.wire import EVERYONE, SERVER, Message, Send, ServerHalf, Transcript, client


class SchemeGrid(Grid):
    """A grid around another one. A round of training through it is a round of a scheme; all else passes unchanged.

    Every reply that a strategy gets holds the same arrays: those that it sent less the mean update, every client
    counting alike, so that whatever weights a strategy takes its mean is this one. Clients that fail or stay silent
    drop out of the round. A server's strategy that sends clients different arrays is refused.

    Attributes:
        transcript: every message of the rounds played, as `gradwire.wire.Transcript` keeps them.
        public: the scheme's public state before the next round, and `round`, its number: what a resumed server needs.
    """

    def __init__(
        self,
        grid: Grid,
        scheme: str | Scheme,
        parameters: Sequence[str] | None = None,
        seed: int = 0,
        transcript: Transcript | None = None,
    ):
        self.scheme = chosen(scheme)
        self.inner = grid
        self.parameters = parameters
        self.seed = seed
        self.transcript = Transcript(keep=1) if transcript is None else transcript
        self.round = 0
        self.public: Mapping[str, Tensor] | None = None
        self._parties: dict[int, str] = {}

    def send_and_receive(
        self, messages: Iterable[FlowerMessage], *, timeout: float | None = None
    ) -> Iterable[FlowerMessage]:
        """As the inner grid's; messages of type train are played through the scheme.

        Raises:
            WireError: clients that do not follow the protocol, or a strategy that sends them different arrays.
        """
        training, others = list[FlowerMessage](), list[FlowerMessage]()
        for message in messages:
            kind = message.metadata.message_type.split(".")[0]
            (training if kind == "train" else others).append(message)
        replies = list(self.inner.send_and_receive(others, timeout=timeout)) if others else []
        return [*replies, *(self._play(training, timeout) if training else ())]

    def _play(self, messages: Sequence[FlowerMessage], timeout: float | None) -> list[FlowerMessage]:
        """A round: what each client's reply comes to, and the errors of those that failed."""
        first = messages[0]
        key, arrays = arrays_of(first.content)
        before = tensors_of(arrays)
        if any(arrays_of(message.content)[1] != arrays for message in messages[1:]):
            raise WireError(
                f"round {self.round}: the strategy sends clients different arrays; a scheme needs one model"
            )
        names, _ = split(before, self.parameters)
        asked = {self._party(message.metadata.dst_node_id): message for message in messages}
        start = {name: before[name] for name in names}
        round = Round(self.round, tuple(asked), self.seed, Layout.of(start), start=start)
        if self.public is None:
            self.public = self.scheme.public_state(round.layout)
        for party, message in asked.items():
            begin = Begin(self.scheme.spec, party, round.clients, round.index, self.seed)
            told = ConfigRecord({"begin": begin.text(), "public": pack(self.public)})
            asked[party] = _ask(message, RecordDict({**message.content, KEY: told}))
        half = self.scheme.server(self.public, round)
        next(half)
        answered, failed = self._exchange(asked, timeout)
        buffers = {party: self._beside(reply, party) for party, reply in answered.items()}
        aggregate = self._drive(half, asked, answered, failed, timeout)
        self.round += 1
        if aggregate is None:
            return failed
        after = self._after(before, aggregate, list(buffers.values()))
        done = []
        for reply in answered.values():
            rest = {name: record for name, record in reply.content.items() if name != KEY}
            reply.content = RecordDict({key: ArrayRecord(torch_state_dict=after), **rest})
            done.append(reply)
        return [*done, *failed]

    def _drive(
        self,
        half: ServerHalf[Any],
        asked: Mapping[str, FlowerMessage],
        answered: Mapping[str, FlowerMessage],
        failed: list[FlowerMessage],
        timeout: float | None,
    ) -> Update | None:
        """All phases, from the first uploads on; the mean update, or None where every client has dropped out."""
        while answered:
            done = {party for party, reply in answered.items() if "done" in (record_of(reply.content) or ())}
            if done == set(answered):
                try:
                    half.send({})
                except StopIteration as stop:
                    self.public = stop.value.public
                    return dict(stop.value.aggregate)
                raise WireError(f"round {self.round}: the server waits for a phase that no client sends")
            if done:
                raise WireError(f"round {self.round}: {min(done)} is done while others are not")
            uploads = {party: self._upload(reply, party) for party, reply in answered.items()}
            if len({message.phase for message in uploads.values()}) > 1:
                raise WireError(f"round {self.round}: clients are in different phases")
            sent = half.send({party: message.tensors for party, message in uploads.items()})
            if not isinstance(sent, Send):
                raise WireError(f"round {self.round}: the server does not reply to all alike")
            message = Message(SERVER, EVERYONE, self.round, sent.phase, sent.tensors)
            data = bytes(message.encode())
            self.transcript.record(message, len(data), tuple(uploads))
            content = {party: RecordDict({KEY: ConfigRecord({"message": data})}) for party in uploads}
            next_ones = {party: _ask(asked[party], content[party]) for party in uploads}
            answered, more = self._exchange(next_ones, timeout)
            failed += more
        return None

    def _exchange(
        self, asked: Mapping[str, FlowerMessage], timeout: float | None
    ) -> tuple[dict[str, FlowerMessage], list[FlowerMessage]]:
        """The replies of the clients that sent one, in the order of the parties, and those that hold errors."""
        replies = self.inner.send_and_receive(asked.values(), timeout=timeout)
        got = {self._party(reply.metadata.src_node_id): reply for reply in replies}
        answered = {party: got[party] for party in asked if party in got and not got[party].has_error()}
        return answered, [reply for reply in got.values() if reply.has_error()]

    def _upload(self, reply: FlowerMessage, party: str, field: str = "message") -> Message:
        """A client's message, recorded."""
        record = record_of(reply.content)
        if record is None or field not in record:
            raise WireError(f"round {self.round}: {party} sent no message of scheme {self.scheme.spec}")
        message = read(record[field])
        if (message.sender, message.round) != (party, self.round):
            raise WireError(f"got {message.name}; one of round {self.round} from {party} was due")
        self.transcript.record(message, message.size, (SERVER,))
        return message

    def _beside(self, reply: FlowerMessage, party: str) -> dict[str, Tensor]:
        """What a client sent beside the scheme."""
        message = self._upload(reply, party, BUFFERS)
        return dict(message.tensors)

    def _after(
        self, before: Mapping[str, Tensor], aggregate: Update, buffers: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The arrays after the round: floating-point buffers averaged, whole numbers (counters) the first client's."""
        floating = {str(i): {n: t for n, t in each.items() if t.is_floating_point()} for i, each in enumerate(buffers)}
        others = {**buffers[0], **mean(floating)}
        return {name: t - aggregate[name] if name in aggregate else others[name] for name, t in before.items()}

    def _party(self, node: int) -> str:
        """The name of a node, the same in every round."""
        return self._parties.setdefault(node, client(len(self._parties)))

    # What follows passes through.

    def set_run(self, run: Any) -> None:
        """As the inner grid's."""
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        """As the inner grid's."""
        return self.inner.run

    def create_message(self, *args: Any, **options: Any) -> FlowerMessage:
        """As the inner grid's."""
        return self.inner.create_message(*args, **options)

    def get_node_ids(self) -> Iterable[int]:
        """As the inner grid's."""
        return self.inner.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """As the inner grid's."""
        return self.inner.get_nodes()

    def push_messages(self, messages: Iterable[FlowerMessage]) -> Iterable[str]:
        """As the inner grid's: what is pushed by hand passes by the scheme, and its clients refuse to train on it."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[FlowerMessage]:
        """As the inner grid's."""
        return self.inner.pull_messages(message_ids)


def _ask(message: FlowerMessage, content: RecordDict) -> FlowerMessage:
    """A message like this one with another content."""
    about = message.metadata
    return FlowerMessage(content, about.dst_node_id, about.message_type, ttl=about.ttl, group_id=about.group_id)
