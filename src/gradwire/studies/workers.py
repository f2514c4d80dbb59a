"""Worker processes of one thread each, which end when the process that started them is gone."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

import torch


def pool(jobs: int) -> ProcessPoolExecutor:
    """A pool of `jobs` processes. They are spawned, for a fork would share the threads of this process's PyTorch."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin)


def _begin() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: workers hold both ends of the queue of their tasks, and would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
