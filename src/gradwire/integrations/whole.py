"""A bucket that is sent whole: its own memory is all-reduced where it lies, without a copy.

It is what a round of `none` comes to, without the halves and their messages: two passes over the bucket, one that
divides by the number of workers and one that looks for what is not finite. As PyTorch's hooks do (torch.distributed.
algorithms.ddp_comm_hooks.default_hooks), sixteen-bit payloads are divided before they are summed up, for a sum of
float16 overflows.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from gradwire.wire import EVERYONE, SERVER, Collective, Message, Transcript, wide


def mean_in_place(transport: Collective, buffer: Tensor, payload: torch.dtype, step: int, index: int) -> bool:
    """Replace a bucket's entries by their mean over all workers; whether all of them are finite, in every worker.

    Bytes are counted in the transport's transcript, as those of the messages of a round of `none`.

    Args:
        buffer: shape (entries,).
        payload: the dtype in which entries are sent.
        step, index: of the bucket, for the messages' names.
    """
    sent, n = buffer.to(payload), len(transport.parties)
    if wide(payload) != payload:
        sent.div_(n)
    phase = f"{index}/update"
    transport.roll.attempt(f"{phase!r} of round {step}", lambda: dist.all_reduce(sent, group=transport.group))
    if wide(payload) == payload:
        sent.div_(n)
    _count(transport, sent, step, phase)
    if sent is not buffer:
        buffer.copy_(sent)
    return bool(torch.isfinite(sent.sum(dtype=torch.float32)))


def _count(transport: Collective, sent: Tensor, step: int, phase: str) -> None:
    transport.transcript = transcript = Transcript(keep=0)
    for party in transport.parties:
        transcript.count(party, step, Message(party, SERVER, step, phase, {"dense": sent}).size, (SERVER,))
    reply = Message(SERVER, EVERYONE, step, phase, {"dense": sent})
    transcript.count(SERVER, step, reply.size, transport.parties)
