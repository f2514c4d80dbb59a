"""The transport over torch.distributed for schemes that need a server: process 0 is the server, next to its client.

Uploads are gathered by process 0 alone; it drives the server's half, broadcasts what is said to all, and scatters what
each client is told apart. So no process but that one receives another client's upload, and messages and bytes are those
of any other transport. Whoever runs process 0 is server and client at once: against a server that must not know one of
the clients' own data, let that client hold none.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.distributed as dist

from gradwire.errors import GradwireError, WireError
from gradwire.wire.collective import Collective, attempt, start
from gradwire.wire.message import EVERYONE, SERVER, Message
from gradwire.wire.protocol import ClientHalf, Deal, Send, ServerHalf, Tensors

C = TypeVar("C")
S = TypeVar("S")
FAULT, ALL, EACH = range(3)
"""What process 0 announces: that the server gave up, one message to all, one to each."""
HUB = 0


class ParameterServer(Collective):
    """This process's place among the others of a process group, the first of which is the server as well."""

    def exchange(
        self, clients: Mapping[str, ClientHalf[C]], server: ServerHalf[S], round: int
    ) -> tuple[dict[str, C], S | None]:
        """Drive this process's client to its end, and the server with it in process 0.

        Returns:
            what the client returned, and in process 0 what the server returned.

        Raises:
            WireError: the halves do not follow one protocol, a message is damaged or too large, a process is gone.
            GradwireError: in every process, what the server's half has raised.
        """
        ((party, half),) = clients.items()
        if self.leads:
            next(server)
        send = next(half)
        while True:
            uploads = self._collect(send, round)
            reply = None if uploads is None else self._reply(server, uploads, send.phase, round)
            try:
                send = half.send(self._hand_out(reply, send.phase, round))
            except StopIteration as stop:
                return {party: stop.value}, self._end(server, round) if self.leads else None

    def _reply(
        self, server: ServerHalf[S], uploads: Mapping[str, memoryview], phase: str, round: int
    ) -> Send | Deal | GradwireError:
        """What the server says to the uploads of a phase, or what was wrong: the others must hear of that, too."""
        try:
            reply = server.send({party: self._received(data, party, phase, round) for party, data in uploads.items()})
        except GradwireError as error:
            return error
        except StopIteration:
            reply = None
        if reply is None:
            return WireError(f"round {round}: the server did not reply in phase {phase!r}")
        if isinstance(reply, Deal) and set(reply.tensors) != set(self.parties):
            dealt, waiting = sorted(reply.tensors), sorted(self.parties)
            return WireError(f"round {round}, phase {reply.phase!r}: the server replies to {dealt}, not to {waiting}")
        return reply

    def _end(self, server: ServerHalf[S], round: int) -> S:
        try:
            server.send({})
        except StopIteration as stop:
            return stop.value
        raise WireError(f"round {round}: the server waits for a phase that no client sends")

    def _collect(self, send: Send, round: int) -> dict[str, memoryview] | None:
        """The uploads of a phase, as they came, in process 0; the others get to see none."""
        data = Message(self.party, SERVER, round, send.phase, send.tensors).encode()
        what = f"{send.phase!r} of round {round}"
        lengths = self._lengths(len(data), what)
        block = self._block(data, max(lengths.values()))
        blocks = [torch.empty_like(block) for _ in self.parties] if self.leads else None
        attempt(what, lambda: dist.gather(block, blocks, HUB, group=self.group))
        if blocks is None:
            self._note_uploads(Message.decode(data), lengths, round)
            return None
        return {p: start(b, length) for (p, length), b in zip(lengths.items(), blocks, strict=True)}

    def _note_uploads(self, own: Message, lengths: Mapping[str, int], round: int) -> None:
        """Take down this process's upload; of the others' it knows the length."""
        for party, length in lengths.items():
            if party == self.party:
                self.transcript.record(own, length, (SERVER,))
            else:
                self.transcript.count(party, round, length, (SERVER,))

    def _hand_out(self, reply: Send | Deal | GradwireError | None, phase: str, round: int) -> Tensors:
        """The server's message to this process's client. Process 0 has the reply, the others None."""
        what = f"the server's reply to {phase!r} of round {round}"
        kind, texts = self._written(reply, round)
        announced = torch.tensor([kind, *(len(text) for text in texts)], device=self.device)
        attempt(what, lambda: dist.broadcast(announced, HUB, group=self.group))
        kind, *lengths = announced.tolist()
        if max(lengths) > self.limit:
            raise WireError(f"{what}: {max(lengths)} bytes are announced; a message takes {self.limit} at most")
        blocks = [self._block(text, max(lengths)) for text in texts] if self.leads else None
        mine = torch.empty(max(lengths), dtype=torch.uint8, device=self.device) if blocks is None else blocks[0].clone()
        if kind == EACH:
            attempt(what, lambda: dist.scatter(mine, blocks, HUB, group=self.group))
        else:
            attempt(what, lambda: dist.broadcast(mine, HUB, group=self.group))
        data = start(mine, lengths[self.parties.index(self.party)])
        if kind == FAULT:
            raise reply if isinstance(reply, GradwireError) else WireError(bytes(data).decode())
        message = Message.decode(data)
        self._note_reply(message, lengths, kind, round)
        return message.tensors

    def _written(self, reply: Send | Deal | GradwireError | None, round: int) -> tuple[int, list[bytearray]]:
        """What process 0 announces, and one text a process; elsewhere, room for the same."""
        if isinstance(reply, GradwireError):
            return FAULT, [bytearray(str(reply).encode())] * len(self.parties)
        if isinstance(reply, Send):
            text = Message(SERVER, EVERYONE, round, reply.phase, reply.tensors).encode()
            return ALL, [text] * len(self.parties)
        if isinstance(reply, Deal):
            hands = reply.tensors
            return EACH, [Message(SERVER, party, round, reply.phase, hands[party]).encode() for party in self.parties]
        return FAULT, [bytearray()] * len(self.parties)

    def _note_reply(self, message: Message, lengths: list[int], kind: int, round: int) -> None:
        """Take down what the server sent: this process has seen its own part, of the others' it knows the length."""
        if kind == ALL:
            self.transcript.record(message, lengths[0], self.parties)
            return
        for party, length in zip(self.parties, lengths, strict=True):
            if party == self.party:
                self.transcript.record(message, length, (party,))
            else:
                self.transcript.count(SERVER, round, length, (party,))
