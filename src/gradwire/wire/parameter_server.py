"""The transport over torch.distributed for schemes that need a server: process 0 is the server, next to its client.

Uploads are gathered by process 0 alone; it drives the server's half, broadcasts what is said to all, and scatters what
each client is told apart. So no process but that one receives another client's upload, and messages and bytes are those
of any other transport. Whoever runs process 0 is server and client at once: against a server that must not know one of
the clients' own data, let that client hold none.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, TypeVar

import torch
import torch.distributed as dist

from gradwire.errors import GradwireError, WireError
from gradwire.wire.collective import Collective, attempt, start
from gradwire.wire.message import SERVER, Message
from gradwire.wire.need import Need
from gradwire.wire.session import ClientSession, Replies, ServerSession

C = TypeVar("C")
S = TypeVar("S")
FAULT, ALL, EACH = range(3)
"""What process 0 announces: that the server gave up, one message to all, one to each."""
HUB = 0


class ParameterServer(Collective):
    """This process's place among the others of a process group, the first of which is the server as well."""

    offers: ClassVar[frozenset[Need]] = frozenset(Need)

    def exchange(self, clients: Mapping[str, ClientSession[C]], server: ServerSession[S]) -> None:
        """Drive this process's client to its end, and the server with it in process 0.

        Raises:
            WireError: the halves do not follow one protocol, a message is damaged or too large, a process is gone.
            GradwireError: in every process, what the server's half has raised.
        """
        ((_, session),) = clients.items()
        message: Message | None = session.begin()
        while message is not None:
            what = f"{message.phase!r} of round {message.round}"
            uploads = self._collect(message, what)
            replies = None if uploads is None else self._replies(server, uploads)
            message = session.answer(self._hand_out(replies, f"the server's reply to {what}"))
        if self.leads:
            server.finish()

    def _replies(self, server: ServerSession[S], uploads: Mapping[str, memoryview]) -> Replies | GradwireError:
        """What the server says to the uploads of a phase, or what was wrong: the others must hear of that, too."""
        try:
            self._deliver(uploads, server)
            return server.close(send=False)
        except GradwireError as error:
            return error

    def _collect(self, message: Message, what: str) -> dict[str, memoryview] | None:
        """The uploads of a phase, as they came, in process 0; the others get to see none."""
        data = message.encode()
        lengths = self._lengths(len(data), what)
        block = self._block(data, max(lengths.values()))
        blocks = [torch.empty_like(block) for _ in self.parties] if self.leads else None
        attempt(what, partial(dist.gather, block, blocks, HUB, group=self.group))
        if blocks is None:
            self._note_uploads(Message.decode(data), lengths, message.round)
            return None
        return {p: start(b, length) for (p, length), b in zip(lengths.items(), blocks, strict=True)}

    def _note_uploads(self, own: Message, lengths: Mapping[str, int], round: int) -> None:
        """Take down this process's upload; of the others' it knows the length."""
        for party, length in lengths.items():
            if party == self.party:
                self.transcript.record(own, length, (SERVER,))
            else:
                self.transcript.count(party, round, length, (SERVER,))

    def _hand_out(self, replies: Replies | GradwireError | None, what: str) -> Message:
        """The server's message to this process's client. Process 0 has the replies, the others None."""
        kind, texts = self._written(replies)
        announced = torch.tensor([kind, *(len(text) for text in texts)], device=self.device)
        attempt(what, partial(dist.broadcast, announced, HUB, group=self.group))
        kind, *lengths = announced.tolist()
        if max(lengths) > self.limit:
            raise WireError(f"{what}: {max(lengths)} bytes are announced; a message takes {self.limit} at most")
        blocks = [self._block(text, max(lengths)) for text in texts] if self.leads else None
        mine = torch.empty(max(lengths), dtype=torch.uint8, device=self.device) if blocks is None else blocks[0].clone()
        if kind == EACH:
            attempt(what, partial(dist.scatter, mine, blocks, HUB, group=self.group))
        else:
            attempt(what, partial(dist.broadcast, mine, HUB, group=self.group))
        data = start(mine, lengths[self.parties.index(self.party)])
        if kind == FAULT:
            raise replies if isinstance(replies, GradwireError) else WireError(bytes(data).decode())
        message = Message.decode(data)
        self._note_reply(message, lengths, kind)
        return message

    def _written(self, replies: Replies | GradwireError | None) -> tuple[int, list[bytearray]]:
        """What process 0 announces, and one text a process; elsewhere, room for the same."""
        if replies is None:
            return FAULT, [bytearray()] * len(self.parties)
        if isinstance(replies, GradwireError):
            return FAULT, [bytearray(str(replies).encode())] * len(self.parties)
        texts = {party: text for message, to in replies for text in (message.encode(),) for party in to}
        return ALL if len(replies) == 1 else EACH, [texts[party] for party in self.parties]

    def _note_reply(self, message: Message, lengths: list[int], kind: int) -> None:
        """Take down what the server sent: this process has seen its own part, of the others' it knows the length."""
        if kind == ALL:
            self.transcript.record(message, lengths[0], self.parties)
            return
        for party, length in zip(self.parties, lengths, strict=True):
            if party == self.party:
                self.transcript.record(message, length, (party,))
            else:
                self.transcript.count(SERVER, message.round, length, (party,))
