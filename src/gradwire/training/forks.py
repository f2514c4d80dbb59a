"""Processes that train some of a round's clients while this one trains the others: forks of it, a thread each.

Clients do not need each other, and their steps are too small for threads to share one. Threads that take a client each
would hand Python's lock to and fro. A fork knows the run as it stood; a round's parameters reach it, and what its
clients come with leaves it, through memory that both see.
"""

import mmap
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradwire.training.contribution import Contribution

AVAILABLE = sys.platform == "linux"
"""Elsewhere there are no forks, or a system's own libraries do not survive them."""
Came = tuple[float, dict[str, Tensor], dict[str, Tensor]]
"""A client's loss, update and buffers."""
Lot = tuple[str, ...]
Train = Callable[[int, Lot], Mapping[str, Contribution]]
"""(round, parties) → what each of them comes with, from the model's parameters as they are."""

T = TypeVar("T")


def dealt(lots: Sequence[T], processes: int) -> list[Sequence[T]]:
    """To each process its lots."""
    return [lots[i::processes] for i in range(processes)]


class Forks:
    """Processes for one run, beside this one."""

    def __init__(self, count: int, model: nn.Module, rows: int, train: Train):
        """Begin so many processes.

        Args:
            model: whose parameters and buffers `train` starts from; in this process they change from round to round.
            rows: clients that one of the processes trains in a round, at most.
        """
        self._model, self._train = model, train
        self._now = {name: _shared(tensor, 1)[0] for name, tensor in _tensors(model).items()}
        self._rooms = [_Room(model, rows) for _ in range(count)]
        self._ends: list[Connection] = []
        context = get_context("fork")
        self._processes = []
        for room in self._rooms:
            here, there = context.Pipe()
            self._ends.append(here)
            process = context.Process(target=self._serve, args=(there, room), daemon=True)
            process.start()
            there.close()
            self._processes.append(process)

    def run(self, round: int, lots: Sequence[Lot], mine: Callable[[Lot], None]) -> dict[str, Came]:
        """Train lots of clients, side by side.

        Args:
            mine: trains a lot in this process; that is what happens to those of a process that fails, too, so that
                whatever is wrong is seen here.

        Returns:
            what came from the other processes.
        """
        lanes = dealt(lots, len(self._ends) + 1)
        with torch.no_grad():
            for name, tensor in _tensors(self._model).items():
                self._now[name].copy_(tensor)
        with _one_thread():
            for end, lane in zip(self._ends, lanes, strict=False):
                with suppress(OSError):  # a process that is gone; its lots are seen to below
                    end.send((round, lane))
            for lot in lanes[-1]:
                mine(lot)
            came: dict[str, Came] = {}
            for end, lane, room in zip(self._ends, lanes, self._rooms, strict=False):
                if _done(end):
                    came |= room.read([party for lot in lane for party in lot])
                else:
                    for lot in lane:
                        mine(lot)
        return came

    def close(self) -> None:
        """End the processes."""
        for end, process in zip(self._ends, self._processes, strict=True):
            end.close()
            process.terminate()
            process.join()

    def _serve(self, end: Connection, room: "_Room") -> None:
        """What a fork does: a round's lots, whenever it is told to, until nobody is there to tell it."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for other in self._ends:  # else this process would keep itself, and its elder siblings, waiting
            other.close()
        torch.set_num_threads(1)
        with suppress(EOFError, BrokenPipeError):
            while True:
                round, lots = end.recv()
                with torch.no_grad():
                    for name, tensor in _tensors(self._model).items():
                        tensor.copy_(self._now[name])
                try:
                    for place, brought in enumerate(b for lot in lots for b in self._train(round, lot).values()):
                        room.write(place, brought)
                except Exception:  # whatever it is, the other process will meet it too, and say so
                    end.send(False)
                else:
                    end.send(True)


class _Room:
    """Memory for what a fork's clients come with, a row each."""

    def __init__(self, model: nn.Module, rows: int):
        self._losses = _shared(torch.zeros((), dtype=torch.float64), rows)
        self._update = {n: _shared(p, rows) for n, p in model.named_parameters() if p.requires_grad}
        self._buffers = {name: _shared(b, rows) for name, b in model.named_buffers()}

    def write(self, place: int, brought: Contribution) -> None:
        """Put down what one client came with."""
        self._losses[place] = brought.loss
        for rows, named in ((self._update, brought.update), (self._buffers, brought.buffers)):
            for name, tensor in named.items():
                rows[name][place] = tensor

    def read(self, parties: Sequence[str]) -> dict[str, Came]:
        """What these clients came with, in the order in which it was put down; copies, for rows are used again."""
        update, buffers = (
            {name: rows[: len(parties)].clone() for name, rows in each.items()}
            for each in (self._update, self._buffers)
        )
        return {
            party: (
                float(self._losses[i]),
                {name: rows[i] for name, rows in update.items()},
                {name: rows[i] for name, rows in buffers.items()},
            )
            for i, party in enumerate(parties)
        }


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _shared(like: Tensor, rows: int) -> Tensor:
    """Zeros, (rows, *like.shape), in memory that forks of this process see too."""
    count = rows * like.numel()
    memory = mmap.mmap(-1, max(1, count) * like.element_size())
    return torch.frombuffer(memory, dtype=like.dtype)[:count].view(rows, *like.shape)


def _done(end: Connection) -> bool:
    try:
        return bool(end.recv())
    except (EOFError, OSError):
        return False


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
