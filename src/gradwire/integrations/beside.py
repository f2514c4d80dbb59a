"""Work beside the main thread: one thread, piece after piece, and a process group that nothing else uses."""

from collections.abc import Callable
from concurrent.futures import Future as Running
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Variable
from torch.futures import Future

from gradwire.wire.roll_call import RollCall

T = TypeVar("T")


class Beside:
    """A thread that does one piece of work after another.

    Attributes:
        broken: what went wrong first. What comes after it is not tried, for each piece would wait for its own end.
    """

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self.broken: Exception | None = None

    def run(self, work: Callable[[], T]) -> Running[T]:
        """Begin a piece of work, or let it wait for those before it."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="gradwire")
        return self._worker.submit(self._unless_broken, work)

    def _unless_broken(self, work: Callable[[], T]) -> T:
        if self.broken is None:
            try:
                return work()
            except Exception as error:
                self.broken = error
        raise self.broken


class BesideBackward:
    """A thread that reduces buckets while the backward pass computes the next ones, and whose end that waits for."""

    def __init__(self) -> None:
        self._beside = Beside()
        self._running: list[Running[Tensor]] = []

    def run(self, work: Callable[[], Tensor]) -> Future[Tensor]:
        """Do a bucket's work; at the end of the backward pass, raise what went wrong."""
        future: Future[Tensor] = Future()
        try:
            Variable._execution_engine.queue_callback(self._finish)
        except RuntimeError:  # no backward pass is under way: DDP's own start of a step
            future.set_result(work())
            return future
        running = self._beside.run(work)
        self._running.append(running)
        running.add_done_callback(lambda done: future.set_result(torch.empty(0) if done.exception() else done.result()))
        return future

    def _finish(self) -> None:
        """Wait for the buckets' work."""
        running, self._running = self._running, []
        wait(running)
        if self._beside.broken is not None:
            raise self._beside.broken


def group_beside(group: dist.ProcessGroup | None, what: str, **how: Any) -> dist.ProcessGroup:
    """A group of the same processes: collectives of two threads in one group would cross those of another process.

    Args:
        what: in which they meet, for the error of one that does not come.
        how: further arguments of `torch.distributed.new_group`.

    Raises:
        WireError: a process is gone.
    """
    whole, made = group or dist.group.WORLD, list[Any]()
    assert whole is not None
    ranks, limit = dist.get_process_group_ranks(whole), timeout_of(whole)
    RollCall(whole).attempt(what, lambda: made.append(dist.new_group(ranks, timeout=limit, **how)))
    return cast(dist.ProcessGroup, made[0])


def timeout_of(group: dist.ProcessGroup) -> timedelta | None:
    """How long the collectives of a group wait; None where its backend does not tell."""
    backend = group._get_backend(torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu"))
    return getattr(getattr(backend, "options", None), "_timeout", None)
