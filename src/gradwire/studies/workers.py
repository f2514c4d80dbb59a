"""Worker processes of one thread each, here, ending when the process that started them is gone; or on a cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config

from gradwire.errors import GradwireError, in_line

T = TypeVar("T")


def run_each(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], jobs: int, engine: str = "") -> Iterator[T]:
    """The results of a function for each of these tuples of arguments, in the order in which they are finished.

    Args:
        jobs: how many at a time, each in a process of one thread; one task, or one job, runs in this process.
        engine: dask://HOST:PORT: the workers of that cluster run them instead.

    Raises:
        GradwireError: an engine that is none, is not installed, or cannot be reached.
    """
    if engine:
        with _cluster(engine):
            yield from Parallel(n_jobs=-1, return_as="generator_unordered")(
                delayed(_on_one_thread)(function, arguments) for arguments in tasks
            )
        return
    if jobs == 1 or len(tasks) < 2:
        yield from (function(*arguments) for arguments in tasks)
        return
    # Processes are spawned, for a fork would share the threads of this process's PyTorch.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin) as pool:
        for task in as_completed([pool.submit(function, *arguments) for arguments in tasks]):
            yield task.result()


@contextmanager
def _cluster(engine: str) -> Iterator[None]:
    """joblib's backend for a cluster that is there: it has no coordinator of its own."""
    name, _, address = engine.partition("://")
    if name != "dask" or not address:
        raise GradwireError(f"--engine is {engine!r}; it must be dask://HOST:PORT")
    try:
        from distributed import Client

        close = Client(address, timeout=10).close
    except ImportError:
        raise GradwireError(f"--engine {engine} needs dask.distributed: pip install 'gradwire[dask]'") from None
    except OSError as error:
        raise GradwireError(f"--engine {engine} cannot be reached: {in_line(error)}") from None
    try:
        with parallel_config(backend=name):
            yield
    finally:
        close()


def _on_one_thread(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    torch.set_num_threads(1)
    return function(*arguments)


def _begin() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: workers hold both ends of the queue of their tasks, and would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
