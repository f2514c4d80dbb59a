"""The server's side: a grid that drives a round's session with the clients, and hands the strategy ordinary replies."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Error, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid
from torch import Tensor, nn

from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.integrations.flower import records, strategies
from gradwire.integrations.flower.records import KEY, TURN, Begin
from gradwire.rounds.halves import checking, server_half
from gradwire.schemes import Layout, Outcome, Round, Scheme, State, Weights
from gradwire.wire import BUFFERS, WEIGHTS, ServerSession, Transcript, client

T = TypeVar("T")
ByParty = Mapping[str, FlowerMessage]
log = logging.getLogger(__name__)


class SchemeGrid:
    """A grid around another one. A round of training through it is a round of a scheme; all else passes unchanged.

    Every reply that a strategy gets holds the same arrays: those that it sent less the mean update, and mean running
    statistics beside them. Clients that fail, stay silent or send what they must not are named and left out: the
    strategy gets an error in their place, and the round goes on. What the strategy sends is brought back to the dtypes
    of the first round, and running statistics to their mean where a server's optimiser has moved them. A strategy that
    needs single updates, or that sends clients different arrays, is refused.

    Args:
        parameters: names of the arrays that go through the scheme; the others are averaged beside it.
        model: in place of `parameters`: what it trains goes through the scheme, its buffers are averaged beside it, and
            frozen parameters stay. By default everything of floating point in the first round is a parameter.
        weighted_by: the metric that weighs clients, as the strategy's `weighted_by_key`; None: they count alike.
        examples: the mean of that metric over clients, by which each scales its update. By default clients are asked
            for theirs in the first round, at the price of a round trip; it is the last round's from then on.

    Attributes:
        transcript: every message of the rounds run, as `gradwire.wire.Transcript` keeps them.
        public: the scheme's public state before the next round, and `round`, its number: what a resumed server needs.
        refused: the clients that the last round was without, party → why.

    Raises:
        GradwireError: a scheme that does not run over Flower.
    """

    def __init__(
        self,
        grid: Grid,
        scheme: str | Scheme,
        parameters: Sequence[str] | None = None,
        seed: int = 0,
        transcript: Transcript | None = None,
        *,
        model: nn.Module | None = None,
        weighted_by: str | None = "num-examples",
        examples: float | None = None,
    ):
        self.scheme = records.chosen(scheme, weighted_by)
        self.inner = grid
        self.seed = seed
        self.transcript = Transcript(keep=1) if transcript is None else transcript
        self.weighted_by, self.examples = weighted_by, examples
        self.round = 0
        self.public: State | None = None
        self.refused: Mapping[str, str] = {}
        self.parameters = None if parameters is None else list(parameters)
        self.buffers: list[str] | None = None
        if model is not None:
            trained = model.named_parameters(remove_duplicate=False)
            self.parameters = [name for name, parameter in trained if parameter.requires_grad]
            self.buffers = [name for name, _ in model.named_buffers(remove_duplicate=False)]
        self._run, self._turn = secrets.token_hex(8), 0
        self._like: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._parties: dict[int, str] = {}

    def send_and_receive(
        self, messages: Iterable[FlowerMessage], *, timeout: float | None = None
    ) -> list[FlowerMessage]:
        """As the inner grid's; messages of type train become a round of the scheme.

        Raises:
            GradwireError: a strategy or arrays that do not go with a scheme.
        """
        training, others = list[FlowerMessage](), list[FlowerMessage]()
        for message in messages:
            kind = message.metadata.message_type.split(".")[0]
            (training if kind == "train" else others).append(message)
        for message in others:
            if self._like and len(message.content.array_records) == 1:
                key, arrays = records.arrays_of(message.content)
                message.content = RecordDict({**message.content, key: self.restored(arrays)})
        replies = list(self.inner.send_and_receive(others, timeout=timeout)) if others else []
        if not training:
            return replies
        strategy = strategies.calling()
        strategies.check(strategy, self.scheme.spec, self.weighted_by)
        handed = self._play(training, timeout)
        if not isinstance(strategy, strategies.MOVING):
            self._means = {}
        return [*replies, *handed]

    def restored(self, arrays: ArrayRecord) -> ArrayRecord:
        """Arrays as a strategy's mean left them, in the dtypes of the first round; counters as whole numbers."""
        tensors = dict(arrays.to_torch_state_dict())
        for name, like in self._like.items():
            if name in tensors and tensors[name].shape == like.shape:
                tensor = self._means[name] if name in self._means else tensors[name]
                whole = tensor.is_floating_point() and not like.is_floating_point()
                tensors[name] = (tensor.round() if whole else tensor).to(like.dtype)
        return ArrayRecord(torch_state_dict=tensors)

    def _play(self, messages: Sequence[FlowerMessage], timeout: float | None) -> list[FlowerMessage]:
        """A round: what each client's reply comes to."""
        key, arrays = self._model(messages)
        before = arrays.to_torch_state_dict()
        nodes = [message.metadata.dst_node_id for message in messages]
        parties = [self._parties.setdefault(node, client(len(self._parties))) for node in nodes]
        asked = dict(zip(parties, messages, strict=True))
        parameters, stats = self.parameters or [], self.buffers or []
        start, buffers = records.pick(before, parameters), records.pick(before, stats)
        weights: Weights = "equal" if self.weighted_by is None else "told"
        round = Round(self.round, tuple(asked), self.seed, Layout.of(start), start=start, weights=weights)
        if self.public is None:
            self.public = self.scheme.public_state(round.layout)
        half, check = server_half(self.scheme, self.public, round, buffers), checking(self.scheme, round, buffers)
        session = ServerSession(half, asked, self.round, check, self.transcript)
        names = self.round, self.seed, parameters, stats, self.weighted_by or "", self.examples or 0.0
        public = records.pack(self.public)
        begins = {}
        for party, message in asked.items():
            message.content = RecordDict({**message.content, key: arrays})
            begins[party] = asdict(Begin(self.scheme.spec, party, list(asked), *names, public))
        replies = self._exchange(asked, begins, timeout)
        try:
            outcome = self._drive(session, asked, replies, timeout)
        except WireError as error:
            for party in session.parties:
                session.drop(party, str(error))
        else:
            self.public, self._means = outcome.public, dict(outcome.buffers)
            moved = {name: before[name] - outcome.aggregate[name] for name in start}
            arrays = ArrayRecord(torch_state_dict={**before, **moved, **self._means})
        self.round += 1
        self.refused = session.refused
        for party, why in self.refused.items():
            log.warning("round %d goes on without %s: %s", round.index, party, why)
        for party, reply in replies.items():
            if party in self.refused:
                code = reply.error.code if reply.has_error() else 0
                replies[party] = FlowerMessage(Error(code, self.refused[party]), reply_to=asked[party])
            else:
                rest = {name: record for name, record in reply.content.items() if name != KEY}
                reply.content = RecordDict({key: arrays, **rest})
        return list(replies.values())

    def _drive(
        self, session: ServerSession[Outcome], asked: ByParty, replies: ByParty, timeout: float | None
    ) -> Outcome:
        """Drive a round's session, from the answers to its beginning on.

        Raises:
            WireError: it cannot be finished.
        """
        metric = self.weighted_by
        counts = (
            self._answers(session, replies, lambda _, reply: records.examples_of(reply.content, metric))
            if metric
            else {}
        )
        if counts and not self.examples:
            self.examples = fmean(counts.values())
            replies = self._exchange(asked, {party: {"examples": self.examples} for party in counts}, timeout)
        beside = [WEIGHTS] * bool(metric) + [BUFFERS] * bool(self.buffers)
        while True:

            def receive(party: str, reply: FlowerMessage, beside: Sequence[str] = tuple(beside)) -> bool:
                """Let the session take in a client's message, and what came beside it; whether more is due to it."""
                for name in ("message", *beside):
                    message = records.read(_record(reply).get(name))
                    if name not in ("message", message.phase):
                        raise WireError(f"got {message.name} as {name!r}")
                    session.receive(party, message, early=name != "message")
                return _record(reply).get("settled") is not True

            waits = self._answers(session, replies, receive)
            unsettled = [party for party in session.parties if waits[party]]
            sent = session.close(send=bool(unsettled))
            if not unsettled:
                break
            told = {party: bytes(message.encode()) for message, to in sent for party in to if party in unsettled}
            replies = self._exchange(asked, {party: {"message": data} for party, data in told.items()}, timeout)
            answers = [_record(reply) for reply in replies.values() if not reply.has_error()]
            if not answers:
                raise TooFewError(f"round {self.round}: no client has answered turn {self._turn}")
            # A client that is lost after its last message is in the mean: nothing more is due of it.
            if 2 * sum("message" in answer for answer in answers) <= len(answers):
                break
            beside = []
        outcome = session.finish()
        for party, why in outcome.refused.items():
            session.drop(party, why)
        if counts and session.parties:
            self.examples = fmean(counts[party] for party in session.parties)
        return outcome

    def _answers(
        self, session: ServerSession[Outcome], replies: ByParty, take: Callable[[str, FlowerMessage], T]
    ) -> dict[str, T]:
        """What is taken of each client's answer; those whose answer cannot be taken are dropped."""
        taken = {}
        for party in session.parties:
            try:
                reply = replies.get(party)
                if reply is None or reply.has_error():
                    raise WireError("it has not answered" if reply is None else reply.error.reason)
                if not _record(reply):
                    raise WireError(f"it sent no record of scheme {self.scheme.spec}")
                taken[party] = take(party, reply)
            except GradwireError as error:
                session.drop(party, str(error))
        return taken

    def _exchange(
        self, asked: ByParty, told: Mapping[str, dict[str, Any]], timeout: float | None
    ) -> dict[str, FlowerMessage]:
        """Ask clients; the answer of each, in the clients' order. What is late, doubled or unasked is passed over."""
        self._turn += 1
        turn = dict(zip(TURN, (self._run, self._turn), strict=True))
        messages = []
        for party, fields in told.items():
            to, given = asked[party].metadata, asked[party].content if "scheme" in fields else {}
            content = RecordDict({**given, KEY: ConfigRecord(turn | fields)})
            messages.append(FlowerMessage(content, to.dst_node_id, to.message_type, ttl=to.ttl, group_id=to.group_id))
        got: dict[str, FlowerMessage] = {}
        for reply in self.inner.send_and_receive(messages, timeout=timeout):
            node, record = reply.metadata.src_node_id, _record(reply)
            party, late = self._parties.get(node, ""), record and {name: record.get(name) for name in TURN} != turn
            if late or party in got or party not in told:
                why = "late" if late else "a second one" if party in got else "of a node that was not asked"
                log.warning("round %d: passed over a reply of node %d: it is %s", self.round, node, why)
            else:
                got[party] = reply
        return {party: got[party] for party in told if party in got}

    def _model(self, messages: Sequence[FlowerMessage]) -> tuple[str, ArrayRecord]:
        """The one model that all clients are sent, in its own dtypes, and its key; in the first round its parts.

        Raises:
            GradwireError: several models, or one of another layout than before.
        """
        key, sent = records.arrays_of(messages[0].content)
        if any(records.arrays_of(message.content)[1] != sent for message in messages[1:]):
            raise GradwireError(f"round {self.round}: the strategy sends clients different arrays; a scheme needs one")
        tensors = dict(sent.to_torch_state_dict())
        if not self._like:
            if self.parameters is None:
                self.parameters = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
            chosen = records.pick(tensors, self.parameters)
            if not chosen:
                raise GradwireError(f"none of the arrays {', '.join(tensors)} is a parameter; a scheme needs one")
            Layout.of(chosen).check(chosen)
            self.parameters = [name for name in tensors if name in chosen]
            # A model's buffers may stay out of its state dict; without a model all that is no parameter is a buffer.
            buffers = [name for name in tensors if name not in chosen] if self.buffers is None else self.buffers
            self.buffers = [name for name in buffers if name in tensors]
            for name in self.buffers:
                if tensors[name].is_complex():
                    raise GradwireError(f"array {name!r} is complex; its mean over clients is not defined here")
            self._like = {name: tensor.to("meta") for name, tensor in tensors.items()}
        arrays = self.restored(sent)
        records.check_arrays(dict(arrays.to_torch_state_dict()), self._like, "the strategy's")
        return key, arrays

    def __getattr__(self, name: str) -> Any:
        """All else is the inner grid's. What is pushed by hand passes by the scheme: its clients do not train on it."""
        return getattr(self.inner, name)


Grid.register(SchemeGrid)


def _record(reply: FlowerMessage) -> Mapping[str, Any]:
    """gradwire's record in a reply; an empty one where there is none."""
    return {} if reply.has_error() else reply.content.config_records.get(KEY, {})
