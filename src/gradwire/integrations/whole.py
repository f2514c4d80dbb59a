"""A bucket that is sent whole: its own memory is all-reduced where it lies, without a copy.

It is what a round of `none` comes to, without the halves and their messages: one pass over the bucket, which divides by
the number of workers and looks for what is not finite. As PyTorch's hooks do (torch.distributed.
algorithms.ddp_comm_hooks.default_hooks), sixteen-bit payloads are divided before they are summed up, for a sum of
float16 overflows.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from gradwire.wire import EVERYONE, SERVER, Collective, Message, Transcript, wide

PART = 1 << 18
"""Entries at a time."""


def mean_in_place(transport: Collective, buffer: Tensor, payload: torch.dtype, step: int, index: int) -> bool:
    """Replace a bucket's entries by their mean over all workers; whether all of them are finite, in every worker.

    Args:
        buffer: shape (entries,).
        payload: the dtype in which entries are sent.
        step, index: of the bucket, for what is said of a worker that is lost.
    """
    sent, n = buffer.to(payload), len(transport.parties)
    if wide(payload) != payload:
        sent.div_(n)
    what = f"{phase_of(index)!r} of round {step}"
    transport.roll.attempt(what, lambda: dist.all_reduce(sent, group=transport.group))
    total = torch.zeros((), dtype=torch.float64)
    # Part by part, so that one pass over memory serves both: the sum finds its part in a core's cache.
    for part, came in zip(buffer.split(PART), sent.split(PART), strict=True):
        if wide(payload) == payload:
            torch.div(came, n, out=part)
        elif sent is not buffer:
            part.copy_(came)
        total += part.sum(dtype=torch.float32)
    return bool(torch.isfinite(total))


def phase_of(index: int) -> str:
    """What a bucket's messages are called in a round of `none`."""
    return f"{index}/update"


def told(transport: Collective, upload: Tensor, reply: Tensor, step: int, index: int, keep: bool) -> None:
    """Count a bucket's messages in a transcript of the transport's, as those of a round of `none`, or keep them, too.

    Args:
        upload, reply: what this worker sent and the mean of all, shape (entries,), of the payload's dtype.
    """
    transport.transcript = transcript = Transcript(keep=1 if keep else 0)
    phase = phase_of(index)
    for party in transport.parties:
        message = Message(party, SERVER, step, phase, {"dense": upload})
        if party == transport.party:
            transcript.record(message, message.size, (SERVER,))
        else:
            transcript.count(party, step, message.size, (SERVER,))
    mean = Message(SERVER, EVERYONE, step, phase, {"dense": reply})
    transcript.record(mean, mean.size, transport.parties)
