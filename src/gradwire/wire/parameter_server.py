"""The transport over torch.distributed for schemes that need a server: process 0 is the server, next to its client.

Messages go by the process group's key-value store, not by collectives, which no process outlives that loses another:
here a client that dies, or does not answer in time, is left out, and the round goes on by the scheme's own protocol. A
process reads nothing but what the server has for it. Whoever runs process 0 is server and client at once: against a
server that must not know one of the clients' own data, let that client hold none. When process 0 dies, all is over.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import ClassVar, TypeVar

import torch.distributed as dist
from torch.distributed import distributed_c10d

from gradwire.errors import GradwireError, WireError
from gradwire.wire.collective import LIMIT, Collective
from gradwire.wire.message import EVERYONE, SERVER, Message
from gradwire.wire.need import Need
from gradwire.wire.protocol import Tensors
from gradwire.wire.roll_call import GRACE
from gradwire.wire.session import ClientSession, ServerSession
from gradwire.wire.transcript import Transcript

C = TypeVar("C")
S = TypeVar("S")
PATIENCE = 300.0
REFUSES = b"\0refuses"
"""Before the reason, in the place of a message."""


class ParameterServer(Collective):
    """This process's place among the others of a process group, the first of which is the server as well.

    Attributes:
        patience: seconds that the server waits for the clients' messages of a phase.
        lost: clients whose processes are gone, or have been left out: they are not waited for again.
    """

    offers: ClassVar[frozenset[Need]] = frozenset(Need)

    def __init__(
        self,
        transcript: Transcript | None = None,
        group: dist.ProcessGroup | None = None,
        limit: int = LIMIT,
        patience: float = PATIENCE,
    ):
        super().__init__(transcript, group, limit)
        self.patience = patience
        self.lost: dict[str, str] = {}
        self._store = dist.PrefixStore("gradwire", distributed_c10d._get_default_store())
        self._turn = 0
        self._unheard: list[str] = []

    def exchange(self, clients: Mapping[str, ClientSession[C]], server: ServerSession[S]) -> None:
        """Drive this process's client to its end, and the server with it in process 0.

        Raises:
            WireError: this client has been left out, the halves do not follow one protocol, or process 0 is gone.
            GradwireError: in every process, what the server's half has raised.
        """
        ((_, session),) = clients.items()
        if self.leads:
            for party, why in self.lost.items():
                server.drop(party, why)
        message: Message | None = session.begin()
        try:
            while message is not None:
                self._turn += 1
                what = f"{message.phase!r} of round {message.round}"
                self._put("up", self.party, message.frozen())
                if self.leads:
                    self._serve(server, what)
                message = self._answered(session, what)
        finally:
            self._until_heard()
        if self.leads:
            server.finish()

    def share(self, tensors: Mapping[str, Tensors]) -> dict[str, Tensors]:
        """What every party told that is still there. Not counted: it is no part of what a scheme sends."""
        self._turn += 1
        self._put("up", self.party, Message(self.party, EVERYONE, 0, "share", tensors[self.party]).frozen())
        if self.leads:
            told = self._collected(tuple(party for party in self.parties if party not in self.lost))
            sizes = {party: len(data) for party, data in told.items()}
            for party in told:
                self._hand(party, {"sizes": sizes}, b"".join(told.values()))
        head, body = self._heard("what the workers share")
        found, begin = {}, 0
        for party, size in head["sizes"].items():
            found[party] = Message.decode(body[begin : begin + size]).tensors
            begin += size
        return found

    def _serve(self, server: ServerSession[S], what: str) -> None:
        """Take in the uploads of a phase, and hand out what the server says to them, or why it gave up."""
        uploads = self._collected(server.parties)
        try:
            for party, data in uploads.items():
                if data.startswith(REFUSES):
                    server.drop(party, data.removeprefix(REFUSES).decode())
                else:
                    server.receive(party, data)
            for party in server.parties:
                if party not in uploads:
                    server.drop(party, self.lost[party])
            replies = server.close()
        except GradwireError as error:
            for party in uploads:
                self._hand(party, {"fault": str(error)})
            raise
        sizes = {"up": {party: len(data) for party, data in uploads.items()}}
        written = {id(message): message.frozen() for message, _ in replies}
        down = {party: len(written[id(message)]) for message, to in replies for party in to}
        for message, to in replies:
            for party in to:
                self._hand(party, {**sizes, "down": down, "all": len(replies) == 1}, written[id(message)])
        for party in uploads.keys() - down.keys():
            why = server.refused.get(party, "the server has no reply for it")
            self.lost[party] = why
            self._hand(party, {"fault": f"{party} was left out: {why}"})

    def _answered(self, session: ClientSession[C], what: str) -> Message | None:
        """The client's answer to what the server says to it; its refusal, where it has one, reaches the server."""
        head, body = self._heard(f"the server's reply to {what}")
        reply = Message.decode(body)
        if not self.leads:
            self._note(session, reply, head)
        try:
            return session.answer(reply)
        except WireError as error:
            self._turn += 1
            with suppress(WireError):  # after the last reply, process 0 may be gone
                self._put("up", self.party, REFUSES + f"it refuses to go on: {error}".encode())
            raise

    def _note(self, session: ClientSession[C], reply: Message, head: Mapping[str, Mapping[str, int]]) -> None:
        """Take down what went over the wire: this process has seen its own messages, of the others' it knows sizes."""
        for party, size in head["up"].items():
            if party == self.party and session.sending is not None:
                sent = Message(party, SERVER, reply.round, session.sending.phase, session.sending.tensors)
                self.transcript.record(sent, size, (SERVER,))
            else:
                self.transcript.count(party, reply.round, size, (SERVER,))
        if head["all"]:
            self.transcript.record(reply, head["down"][self.party], tuple(head["down"]))
            return
        for party, size in head["down"].items():
            if party == self.party:
                self.transcript.record(reply, size, (party,))
            else:
                self.transcript.count(SERVER, reply.round, size, (party,))

    def _collected(self, parties: tuple[str, ...]) -> dict[str, bytes]:
        """What these clients have sent in this turn; who has not in time is lost."""
        deadline, found = time.monotonic() + self.patience, dict[str, bytes]()
        for party in parties:
            key = self._key("up", party)
            try:
                self._store.wait([key], timedelta(seconds=max(0.01, deadline - time.monotonic())))
            except RuntimeError:
                self.lost[party] = f"its process has not answered for {self.patience:g} s"
                continue
            found[party] = self._store.get(key)
            self._store.delete_key(key)
        return found

    def _put(self, way: str, party: str, data: bytes) -> None:
        if len(data) > self.limit:
            raise WireError(f"{party} announces {len(data)} bytes; a message takes 1 to {self.limit}")
        key = self._key(way, party)
        self.roll.attempt("a message", lambda: self._store.set(key, data))  # type: ignore[arg-type]

    def _hand(self, party: str, head: Mapping[str, object], body: bytes = b"") -> None:
        """Put down for a client what it is told: a line of facts, and a message."""
        self._put("down", party, json.dumps(head).encode() + b"\n" + body)
        if party != self.party:
            self._unheard.append(self._key("down", party))

    def _until_heard(self) -> None:
        """Let the clients read what they are told: the store goes with process 0, which may end after this round."""
        until = time.monotonic() + min(GRACE, self.patience)
        while any(self._store.check([key]) for key in self._unheard) and time.monotonic() < until:
            time.sleep(0.001)
        self._unheard.clear()

    def _heard(self, what: str) -> tuple[dict[str, dict[str, int]], bytes]:
        """What the server has for this process; WireError if that is a fault, or if nothing comes."""
        key = self._key("down", self.party)
        limit = timedelta(seconds=(len(self.parties) + 1) * self.patience)
        self.roll.attempt(what, lambda: self._store.wait([key], limit))
        head, _, body = self._store.get(key).partition(b"\n")
        self._store.delete_key(key)
        facts = json.loads(head)
        if "fault" in facts:
            raise WireError(facts["fault"])
        return facts, body

    def _key(self, way: str, party: str) -> str:
        return f"{self._turn}/{way}/{party}"
