"""Starting real processes in a test, as torchrun would."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp

from gradwire.errors import GradwireError
from gradwire.wire.rendezvous import joined

FORKS = mp.get_context("forkserver")
"""Processes that are forked from one which has imported what they need, and nothing else: each would take seconds."""
FORKS.set_forkserver_preload(["pytest", "torch.distributed", "gradwire.training", "tests.distributed.workers"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in place.items()}


def start_all(function: Callable, args: tuple, size: int) -> None:
    """Call function(rank, *args) in `size` processes, and wait until all have ended."""
    mp.start_processes(function, args, size, start_method=FORKS.get_start_method())


def run(function: Callable, folder: Path, *args: object, size: int = 2, timeout: float = 60) -> list:
    """Call function(transport, *args) in `size` processes; what each returned, or the message of its GradwireError."""
    mp.start_processes(
        _main, (size, free_port(), function, str(folder), timeout, args), size, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _main(rank: int, size: int, port: int, function: Callable, folder: str, timeout: float, args: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update(environment(rank, size, port))
    with joined(timeout=timeout) as transport:
        try:
            result = function(transport, *args)
        except GradwireError as error:
            result = str(error)
        torch.save(result, f"{folder}/{rank}.pt")
    # Now and then a thread of gloo's outlives its group, and an ordinary exit then aborts the process.
    os._exit(0)


def start(rank: int, size: int, port: int, *args: str) -> subprocess.Popen:
    """`gradwire …` as worker `rank`."""
    env = os.environ | environment(rank, size, port) | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradwire", *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
