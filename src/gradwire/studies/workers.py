"""Worker processes of one thread each, which end when the process that started them is gone."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def run_each(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[T]:
    """The results of a function for each of these tuples of arguments, in the order in which they are finished.

    Args:
        jobs: how many at a time, each in a process of one thread; one task, or one job, runs in this process.
    """
    if jobs == 1 or len(tasks) < 2:
        yield from (function(*arguments) for arguments in tasks)
        return
    # Processes are spawned, for a fork would share the threads of this process's PyTorch.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin) as pool:
        for task in as_completed([pool.submit(function, *arguments) for arguments in tasks]):
            yield task.result()


def _begin() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: workers hold both ends of the queue of their tasks, and would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
