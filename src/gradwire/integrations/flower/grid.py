"""The server's side: a grid that drives a round's session with the clients, and hands the strategy ordinary replies."""

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch
from flwr.app import ArrayRecord, Error, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower import records, strategies
from gradwire.integrations.flower.arrays import FederatedArrays
from gradwire.integrations.flower.members import Members
from gradwire.integrations.flower.opened import opened
from gradwire.integrations.flower.questions import Parts, Questions
from gradwire.integrations.flower.recorded import FederationRecorder
from gradwire.integrations.flower.records import KEY, PAYLOAD, Begin
from gradwire.integrations.flower.saved import BetweenRounds
from gradwire.integrations.flower.served import ServedRound
from gradwire.rounds.halves import checking, server_half
from gradwire.schemes import Layout, Round, Scheme, State, Weights, adapted
from gradwire.schemes.halves import joined
from gradwire.wire import Need, ServerSession, Transcript

MOST = 8
"""Questions of a round of the longest protocol: enrolment, examples, and six phases of a secure sum."""
PLACE = ("round", "epoch", "examples", "_run", "_turn", "_questions")
"""What rounds move, beside states: it is saved with them."""
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
            frozen parameters stay. By default everything of floating point in the first round is a parameter. A scheme
            with a network of its own (precode) wants a model, and makes its network of it.
        weighted_by: the metric that weighs clients, as the strategy's `weighted_by_key`; None: they count alike.
        examples: the mean of that metric over clients, by which each scales its update. By default clients are asked
            for theirs in the first round, at the price of a round trip; it is the last round's from then on.
        lr: the size of the server's step along the mean, for schemes of single gradients (dgc, ssga-dgc).
        replies: what a strategy gets of a client: the "mean" of all, or ("opened") the client's own update as the
            server decodes it, so that strategies which compare clients see what they need.
        record: a file in which rounds are kept for `gradwire audit --transcript`: models and messages, enough to attack
            clients. `rounds`: which of them, the first being 0; by default the last.
        transcript: what counts the bytes of the rounds run, and holds as many messages as it keeps; by default none.

    Attributes:
        model: the model whose arrays are trained, as given or as the scheme makes it.
        public: the scheme's public state before the next round, and `round`, its number.
        epoch: passes over the data so far; set it for schemes that warm up (dgc).
        refused: the clients that the last round was without, party → why.

    Raises:
        GradwireError: a scheme that does not run over Flower with these settings.
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
        lr: float | None = None,
        replies: Literal["mean", "opened"] = "mean",
        record: str | Path | None = None,
        rounds: Sequence[int] = (),
    ):
        self.scheme = records.chosen(scheme, weighted_by)
        _check(self.scheme, model, lr, replies)
        self.model = model if model is None else adapted(self.scheme, model, seed)
        self.arrays = FederatedArrays.of(self.model, parameters)
        self.inner, self.seed, self.lr, self.replies = grid, seed, lr, replies
        self.recorder = None if record is None else FederationRecorder(record, rounds)
        self.transcript = Transcript(keep=0 if record is None else 1) if transcript is None else transcript
        self.weighted_by, self.examples = weighted_by, examples
        self.round = self.epoch = 0
        self.public: State | None = None
        self.refused: Mapping[str, str] = {}
        self._run, self._turn, self._questions = secrets.token_hex(8), 0, MOST
        self._one_mean: bool | None = None
        self.members = Members()

    def send_and_receive(
        self, messages: Iterable[FlowerMessage], *, timeout: float | None = None
    ) -> list[FlowerMessage]:
        """As the inner grid's; messages of type train become a round of the scheme, which ends within `timeout`.

        Raises:
            GradwireError: a strategy or arrays that do not go with a scheme.
        """
        training, others = list[FlowerMessage](), list[FlowerMessage]()
        for message in messages:
            kind = message.metadata.message_type.split(".")[0]
            (training if kind == "train" else others).append(message)
        for message in others:
            if self.arrays.like and len(message.content.array_records) == 1:
                key, arrays = records.arrays_of(message.content)
                message.content = RecordDict({**message.content, key: self.restored(arrays)})
        replies = list(self.inner.send_and_receive(others, timeout=timeout)) if others else []
        if not training:
            return replies
        strategy = strategies.calling()
        self.check(strategy)
        handed = self._play(training, None if timeout is None else monotonic() + timeout)
        if not isinstance(strategy, strategies.MOVING):
            self.arrays.means = {}
        if not strategies.averages(strategy):
            self.arrays.left, self.arrays.record = {}, None
        return [*replies, *handed]

    def check(self, strategy: Strategy | None) -> None:
        """Refuse a strategy that the scheme would make another; raises as `strategies.check`."""
        strategies.check(strategy, self.scheme.spec, self.replies, self.weighted_by)

    def restored(self, arrays: ArrayRecord) -> ArrayRecord:
        """Arrays as a strategy's mean left them, in the dtypes of the first round; counters as whole numbers."""
        return self.arrays.restored(arrays)

    def save(self, path: str | Path) -> None:
        """Write the state between two rounds, from which a grid of the same settings can go on."""
        place = {name: getattr(self, name) for name in PLACE}
        BetweenRounds(self._settings, place, self.arrays, self.members, self.public).save(path)

    def load(self, path: str | Path) -> None:
        """Go on from what `save` wrote, with the same nodes.

        Raises:
            GradwireError: no such file, or one of another grid.
        """
        found = BetweenRounds.load(path, self._settings)
        self.arrays, self.members, self.public = found.arrays, found.members, found.public
        for name in PLACE:
            setattr(self, name, found.place[name])

    @property
    def _settings(self) -> dict[str, Any]:
        """What must be the same in a grid that goes on."""
        said = {name: getattr(self, name) for name in ("seed", "weighted_by", "lr", "replies")}
        return {"scheme": self.scheme.spec, **said}

    def _play(self, messages: Sequence[FlowerMessage], deadline: float | None) -> list[FlowerMessage]:
        """A round: what each client's reply comes to."""
        key, arrays, before = self.arrays.sent(messages, f"round {self.round}")
        nodes = [message.metadata.dst_node_id for message in messages]
        asked = dict(zip(map(self.members.party, nodes), messages, strict=True))
        for message in messages:
            message.content = RecordDict({**message.content, key: arrays})
        start = records.pick(before, self.arrays.parameters or [])
        buffers = records.pick(before, self.arrays.buffers or [])
        layout = Layout.of(start)
        questions = Questions(self.inner, asked, self._run, self._turn, self.round, deadline, self._questions)
        keyed = self.scheme.key_exchange is not None
        refused = self.members.enrol(questions, layout, self._begin) if keyed else {}
        weights: Weights = "equal" if self.weighted_by is None else "told"
        round = Round(self.round, tuple(asked), self.seed, layout, self.epoch, start, weights)
        public = self.scheme.public_state(layout) if self.public is None else self.public
        opens = self.replies == "opened"
        if self.scheme.sums_only and not self.round:
            beside = f"weights, metrics and {len(buffers)} running statistics"
            log.warning("%s hides single updates; clients' %s are in the clear", self.scheme.spec, beside)
        half, check = server_half(self.scheme, public, round, buffers), checking(self.scheme, round, buffers)
        session = ServerSession(half, asked, self.round, check, self.transcript, not opens and self._adds(layout))
        for party, why in refused.items():
            session.drop(party, why)
        served = ServedRound(session, questions, self.weighted_by, bool(buffers), self.examples, opens)
        if self.recorder is not None:
            self.recorder.begin(self.scheme, round, before)
        outcome, replies = served.play(self._begins(session.parties, round, public))
        if self.recorder is not None:
            self.recorder.end(self.round, (*self.transcript.messages(self.round), *served.unsent), public)
        self._turn, self.examples = questions.turn, served.examples
        self.refused = session.refused
        for party, why in self.refused.items():
            log.warning("round %d goes on without %s: %s", self.round, party, why)
        self.members.note_lost(served.lost, self.scheme, self.round)
        self.round += 1
        handed: dict[str, ArrayRecord] = {}
        if outcome is not None:
            self.public, self.arrays.means = outcome.public, dict(outcome.buffers)
            self._questions = questions.put
            self.members.count(session.parties)
            if opens:
                each = opened(self.scheme, served, public, round, buffers, self.lr or 1.0)
                handed = {party: ArrayRecord(torch_state_dict={**before, **own}) for party, own in each.items()}
            else:
                mean, step = outcome.aggregate, self.lr or 1.0
                moved = {name: torch.sub(tensor, mean[name], alpha=step) for name, tensor in start.items()}
                after = self.arrays.leave({**before, **moved, **self.arrays.means})
                handed = dict.fromkeys(session.parties, after)
        return [*handed_on(asked, replies, handed, session.refused, refused, key)]

    def _adds(self, layout: Layout) -> bool:
        """Whether clients send one message a round, of which the server needs the mean alone."""
        if self._one_mean is None:
            alone = Round(0, ("client:0",), 0, layout)
            states = self.scheme.private_state(layout), self.scheme.public_state(layout)
            try:
                send = next(self.scheme.client(layout.zeros(), *states, alone))
            except GradwireError:
                # A scheme with keys, or with a hand in training, has more to do before it sends.
                self._one_mean = False
            else:
                self._one_mean = send.mean and send.settled is not None
        return self._one_mean

    def _begin(self, party: str, clients: Sequence[str]) -> dict[str, Any]:
        """The facts that a client is told."""
        names = self.arrays.parameters or [], self.arrays.buffers or []
        place = self.round, self.seed, self.members.met.get(party, 0), self.epoch, self.lr or 0.0
        weighing = self.weighted_by or "", self.examples or 0.0
        return asdict(Begin(self.scheme.spec, party, list(clients), *place, *names, *weighing))

    def _begins(self, parties: Sequence[str], round: Round, public: State) -> dict[str, Parts]:
        """Client → what it is told as a round begins."""
        payload = {"public": records.pack(public)} if public else {}
        if keys := self.members.keys:
            payload["keys"] = records.pack(joined({party: keys[party] for party in parties}))
        return {party: (self._begin(party, round.clients), payload) for party in parties}

    def __getattr__(self, name: str) -> Any:
        """All else is the inner grid's. What is pushed by hand passes by the scheme: its clients do not train on it."""
        return getattr(self.inner, name)


Grid.register(SchemeGrid)


def handed_on(
    asked: Mapping[str, FlowerMessage],
    replies: Mapping[str, FlowerMessage],
    arrays: Mapping[str, ArrayRecord],
    refused: Mapping[str, str],
    unenrolled: Iterable[str],
    key: str,
) -> Iterator[FlowerMessage]:
    """What the strategy gets of each client: its own reply with the arrays that are its, or an error.

    A client that has not answered at all has no reply, as in plain Flower.
    """
    for party, message in asked.items():
        reply = replies.get(party)
        if party in arrays and reply is not None:
            rest = {name: each for name, each in reply.content.items() if name not in (KEY, PAYLOAD)}
            reply.content = RecordDict({key: arrays[party], **rest})
            yield reply
        elif reply is not None or party in unenrolled:
            code = reply.error.code if reply is not None and reply.has_error() else 0
            yield FlowerMessage(Error(code, refused[party]), reply_to=message)


def _check(scheme: Scheme, model: nn.Module | None, lr: float | None, replies: str) -> None:
    """Refuse a scheme that lacks what it needs, or would open what it hides."""
    if (Need.SINGLE_GRADIENT in scheme.needs) != (lr is not None):
        wants = "wants single gradients, and" if lr is None else "wants no single gradients, and no"
        raise GradwireError(f"scheme {scheme.spec!r} {wants} lr, the size of the server's step along their mean")
    if scheme.network is not None and model is None:
        raise GradwireError(f"scheme {scheme.spec!r} trains a network of its own: SchemeGrid(…, model=Net())")
    if replies not in ("mean", "opened"):
        raise GradwireError(f"replies is {replies!r}; it must be mean or opened")
    if replies == "opened" and scheme.sums_only:
        raise GradwireError(f"scheme {scheme.spec!r} shows the server nothing but sums; replies cannot be opened")
