"""Buckets' work beside the backward pass: one thread, bucket after bucket, whose end the backward pass waits for."""

from collections.abc import Callable
from concurrent.futures import Future as Running
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.futures import Future


class BesideBackward:
    """A thread that reduces buckets while the backward pass computes the next ones."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._running: list[Running[Tensor]] = []
        self._broken: Exception | None = None

    def run(self, work: Callable[[], Tensor]) -> Future[Tensor]:
        """Do a bucket's work; at the end of the backward pass, raise what went wrong."""
        future: Future[Tensor] = Future()
        try:
            Variable._execution_engine.queue_callback(self._finish)
        except RuntimeError:  # no backward pass is under way: DDP's own start of a step
            future.set_result(work())
            return future
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="gradwire")
        running = self._worker.submit(self._unless_broken, work)
        self._running.append(running)
        running.add_done_callback(lambda done: future.set_result(torch.empty(0) if done.exception() else done.result()))
        return future

    def _unless_broken(self, work: Callable[[], Tensor]) -> Tensor:
        """A bucket's work; once one's has failed, the others are not tried, each of which would wait for its end."""
        if self._broken is None:
            try:
                return work()
            except Exception as error:
                self._broken = error
        raise self._broken

    def _finish(self) -> None:
        """Wait for the buckets' work."""
        running, self._running = self._running, []
        wait(running)
        if self._broken is not None:
            raise self._broken
