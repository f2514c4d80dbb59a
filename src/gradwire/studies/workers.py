"""Processes that work side by side, a thread each, and leave when the one that started them is gone."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

import torch


def pool(jobs: int) -> ProcessPoolExecutor:
    """So many processes. They are spawned: a fork would share the threads of this one's PyTorch."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin)


def _begin() -> None:
    torch.set_num_threads(1)
    Thread(target=_leave_with_the_parent, daemon=True).start()


def _leave_with_the_parent() -> None:
    """Workers of a killed parent would wait for ever: each holds both ends of the queue that their work comes by."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
