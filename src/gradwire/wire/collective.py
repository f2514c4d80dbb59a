"""The transport over torch.distributed: one client a process, and no server anywhere.

Where the server would reply with a mean, the processes all-reduce. Everything else they all-gather in serialised
form, and each of them runs the server's half on what came together: it is deterministic, so they all get one reply.
Bytes are counted as if that server stood there, by the lengths of the same messages: the figures are those of any
other transport, whatever tree or ring the collectives build underneath.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gradwire.errors import WireError
from gradwire.wire.message import EVERYONE, Message, client
from gradwire.wire.need import Need
from gradwire.wire.protocol import Send, Tensors, wide
from gradwire.wire.roll_call import RollCall
from gradwire.wire.session import ClientSession, ServerSession
from gradwire.wire.transcript import Transcript

C = TypeVar("C")
S = TypeVar("S")
LIMIT = 4 << 30
"""Bytes of the largest message that is received, so that a broken length does not take all memory."""


class Collective:
    """This process's place among the others of a process group: client number `rank`.

    Attributes:
        roll: says who is missing when a collective fails.
        flag: told to all beside the first message of an exchange; `raised`: whether any process's was set in the last.
    """

    offers: ClassVar[frozenset[Need]] = frozenset(Need) - {Need.SERVER, Need.REPLY_EACH}

    def __init__(
        self, transcript: Transcript | None = None, group: dist.ProcessGroup | None = None, limit: int = LIMIT
    ):
        self.transcript = Transcript() if transcript is None else transcript
        self.group = group
        self.roll = RollCall(group)
        self.limit = limit
        self.parties = tuple(client(i) for i in range(dist.get_world_size(group)))
        self.party = self.parties[dist.get_rank(group)]
        nccl = dist.get_backend(group) == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
        self.flag = self.raised = False
        self._told = False

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.party == self.parties[0]

    def local(self, parties: tuple[str, ...]) -> tuple[str, ...]:
        """This process's own client.

        Raises:
            WireError: the round is not made for as many clients as there are processes.
        """
        if parties != self.parties:
            raise WireError(f"the round has {len(parties)} clients; there are {len(self.parties)} processes")
        return (self.party,)

    def exchange(self, clients: Mapping[str, ClientSession[C]], server: ServerSession[S]) -> None:
        """Drive this process's client to its end, beside the clients of the other processes.

        The server's half is not driven beyond its last reply: nobody here needs what it would return.

        Raises:
            WireError: the halves do not follow one protocol, a message is damaged or too large, a process is gone.
        """
        self.raised = self._told = False
        ((party, session),) = clients.items()
        message: Message | None = session.begin()
        while message is not None:
            send, what = session.sending, f"{message.phase!r} of round {message.round}"
            assert send is not None
            if send.mean:
                server.receive_mean(send, self._mean(send, what), party)
            else:
                self._deliver(self._all_gather(message.encode(), what), server)
            ((reply, _),) = server.close()
            message = session.answer(reply)

    def share(self, tensors: Mapping[str, Tensors]) -> dict[str, Tensors]:
        """What every party told, this process's own among it. Not counted: it is no part of what a scheme sends."""
        message = Message(self.party, EVERYONE, 0, "share", tensors[self.party])
        told, shared = self._all_gather(message.encode(), "what the workers share"), {}
        for party, data in told.items():
            try:
                shared[party] = Message.decode(data).tensors
            except WireError as error:
                raise WireError(f"worker {party}: {error}") from None
        return shared

    def any(self, flags: Sequence[bool], step: int) -> list[bool]:
        """Which of the flags are set in any process.

        Raises:
            WireError: the processes are not at the same step.
        """
        told = torch.tensor([float(step), -float(step), *map(float, flags)], device=self.device, dtype=torch.float64)
        self.roll.attempt("flags", partial(dist.all_reduce, told, op=dist.ReduceOp.MAX, group=self.group))
        last, first, *found = told.tolist()
        if last != -first:
            raise WireError(f"workers are at steps {-first:.0f} to {last:.0f}; this one, {self.party}, is at {step}")
        return [bool(flag) for flag in found]

    def _mean(self, send: Send, what: str) -> dict[str, Tensor]:
        """The entry-wise mean over all processes, by one all-reduce for each dtype, in the order of the tensors.

        Numbers of sixteen bits are divided before they are added up, for a sum overflows.
        """
        means: dict[str, Tensor] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in send.tensors.values()):
            layout = {name: tensor.shape for name, tensor in send.tensors.items() if tensor.dtype == dtype}
            parts = [send.tensors[name].reshape(-1).to(self.device) for name in layout]
            flat = torch.cat([*parts, parts[0].new_tensor([float(self.flag)])])
            before, after = (len(self.parties), 1) if wide(dtype) != dtype else (1, len(self.parties))
            flat = flat.div_(before) if before > 1 else flat
            self.roll.attempt(what, partial(dist.all_reduce, flat, group=self.group))
            self._tell(float(flat[-1]) > 0)
            pieces = (flat.div_(after) if after > 1 else flat).split([*(shape.numel() for shape in layout.values()), 1])
            for (name, shape), piece in zip(layout.items(), pieces, strict=False):
                means[name] = piece.view(shape).to(send.tensors[name].device)
        return means

    def _deliver(self, uploads: Mapping[str, memoryview], server: ServerSession[S]) -> None:
        """Hand the uploads of a phase to the server's session; here no client can go on without another.

        Raises:
            WireError: what is wrong with one of them.
        """
        for party, data in uploads.items():
            if not server.receive(party, data):
                raise WireError(f"{party} cannot be left out of a collective: {server.refused[party]}")

    def _all_gather(self, data: bytearray, what: str) -> dict[str, memoryview]:
        """Every process's bytes. Lengths go first, for the collective moves blocks of one size."""
        lengths = self._lengths(len(data), what)
        block = self._block(data, max(lengths.values()))
        blocks = [torch.empty_like(block) for _ in self.parties]
        self.roll.attempt(what, lambda: dist.all_gather(blocks, block, group=self.group))
        return {p: start(b, length) for (p, length), b in zip(lengths.items(), blocks, strict=True)}

    def _lengths(self, own: int, what: str) -> dict[str, int]:
        """How many bytes each process is about to send."""
        mine = torch.tensor([own, self.flag], device=self.device)
        every = [torch.empty_like(mine) for _ in self.parties]
        self.roll.attempt(what, lambda: dist.all_gather(every, mine, group=self.group))
        told = [each.tolist() for each in every]
        self._tell(any(flag for _, flag in told))
        lengths = {party: length for party, (length, _) in zip(self.parties, told, strict=True)}
        for party, length in lengths.items():
            if not 0 < length <= self.limit:
                raise WireError(f"{what}: {party} announces {length} bytes; a message takes 1 to {self.limit}")
        return lengths

    def _tell(self, raised: bool) -> None:
        """Note what the others' flags were, of an exchange's first message."""
        if not self._told:
            self.raised, self._told = raised, True

    def _block(self, data: bytearray, size: int) -> Tensor:
        """Bytes at the start of a block of this size."""
        block = torch.empty(size, dtype=torch.uint8)
        block[: len(data)] = torch.frombuffer(data, dtype=torch.uint8)
        return block.to(self.device)


def start(block: Tensor, length: int) -> memoryview:
    """The first bytes of a block that was received."""
    return block.cpu().numpy().data[:length]
