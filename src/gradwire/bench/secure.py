"""What secure sums cost: masks, whole rounds, sparse beside dense, curves; beside Flower's SecAgg+ where it is.

Every row says how it came about: "measured", or "calculated" from measured parts. Seconds are those spent by a party
itself, without the wire; bytes are lengths of messages.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from gradwire.bench.stopwatch import Stopwatch
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, introduce, parse
from gradwire.secure import keys, shares
from gradwire.secure.graph import STATED, sufficient
from gradwire.secure.masks import blend
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import InProcess, Transcript, client

COLUMNS = ("what", "by", "clients", "entries", "bits", "seconds_client", "seconds_server", "bytes_up", "how")
Row = dict[str, object]
MILLION = 1_000_000


def benchmark(
    clients: Sequence[int] = (4, 10, 30),
    entries: Sequence[int] = (10_000, 100_000, 1_000_000),
    flower: str | None = None,
    whole: int = 100,
) -> Iterator[Row]:
    """All of it, row by row.

    Args:
        clients: for the curve against clients, at the smallest of `entries`.
        entries: for the curve against N, at the smallest of `clients`.
        flower: a Python that has flwr; by default this one, if it has.
        whole: clients of the round that is compared with Flower's, at a million entries.
    """
    yield from masks()
    few, small = min(clients), min(entries)
    for scheme in ("sga", f"sga:threshold={few * 2 // 3 + 1}", "ssga", "ssga:union=anonymous"):
        for n in entries:
            yield played(scheme, few, n)
    for n in clients:
        for scheme in ("sga", f"sga:threshold={n * 2 // 3 + 1}", f"sga:threshold={n * 2 // 3 + 1},neighbours=few"):
            yield played(scheme, n, small)
    yield from masking(whole, max(entries))
    yield calculated(1_000, small)
    yield calculated(MILLION, MILLION)
    yield played(f"sga:threshold={whole * 2 // 3 + 1}", whole, MILLION)
    yield played(f"sga:threshold={whole * 2 // 3 + 1},neighbours=few", whole, MILLION)
    if python := flower or (sys.executable if find_spec("flwr") else None):
        yield from beside(python, whole)


def masks() -> Iterator[Row]:
    """One mask of a million entries, expanded and added (Flower's is only expanded: an advantage given away)."""
    several = [(bytes([i]) * 32, 1) for i in range(10)]
    for bits in BITS:
        codes = np.zeros(MILLION, dtype=Ring(bits, 2).dtype)
        took = best(lambda codes=codes: blend(codes, several)) / len(several)  # type: ignore[misc]
        yield row("mask", "gradwire", 2, MILLION, bits, took, None, MILLION * bits // 8, "measured")


def masking(clients: int, entries: int) -> Iterator[Row]:
    """What a client pays for the masks of one round: of all entries, and of the K = N / 200 of SSGA."""
    pairs = [(bytes([i % 256]) * 32, 1 if i % 2 else -1) for i in range(clients - 1)]
    for scheme, count in (("sga", entries), ("ssga", entries // 200)):
        codes = np.zeros(count, dtype=np.uint32)
        took = best(lambda codes=codes: blend(codes, pairs))  # type: ignore[misc]
        yield row(f"masking, {scheme}", "gradwire", clients, entries, 32, took, None, 4 * count, "measured")


def played(spec: str, clients: int, entries: int) -> Row:
    """A whole round, keys and all, played through the transport; the mean over clients, and the server."""
    scheme, layout = parse(spec), Layout({"w": (entries,)})
    update = {"w": torch.randn(entries, generator=torch.Generator().manual_seed(0))}
    parties = tuple(map(client, range(clients)))
    private = introduce(scheme, {party: scheme.private_state(layout) for party in parties})
    around, watch, transport = Round(0, parties, 0, layout), Stopwatch(), InProcess(Transcript(keep=0))
    halves = {p: watch.around(p, scheme.client(update, private[p], {}, around)) for p in parties}
    transport.exchange(halves, watch.around("server", scheme.server({}, around)), 0)
    server = watch.seconds.pop("server")
    mean = sum(watch.seconds.values()) / clients
    up = transport.transcript.bytes_up() // clients
    return row(f"round, {spec}", "gradwire", clients, entries, 32, mean, server, up, "measured")


def calculated(clients: int, entries: int) -> Row:
    """A round with a sparse graph among too many clients to play it, from the measured cost of its parts."""
    degree = sufficient(clients, STATED)
    k, t = degree.neighbours, degree.threshold
    ring = Ring(32, clients)
    secret = keys.secret_key("x25519", bytes(16))
    public = keys.public_key("x25519", secret)
    identity, values = bytes(32), torch.randn(entries)
    signature, verification = keys.sign(identity, b"x"), keys.verification_key(identity)
    dealt = shares.split(bytes(16), t, k + 1)
    codes = ring.encode(values, 9.0)
    mask = best(lambda: blend(codes, [(bytes(32), 1)]))
    each = best(lambda: keys.agree("x25519", secret, public, "peer")) * 2
    each += best(lambda: keys.verify(verification, signature, b"x")) + mask
    one = k * each + 2 * best(lambda: shares.split(bytes(16), t, k + 1), 1) + best(lambda: ring.encode(values, 9.0))
    add = best(lambda: np.add(codes, codes, out=codes))
    restore = best(lambda: shares.combine(dict(enumerate(dealt)), t), 1)
    up = 4 * entries + 160 + k * (48 + 16 + 8)
    what = f"round, sparse graph of degree {k}, t = {t}"
    return row(what, "gradwire", clients, entries, 32, one, clients * (add + mask + restore), up, "calculated")


def beside(python: str, clients: int) -> Iterator[Row]:
    """Flower's SecAgg+ with as many neighbours as clients, at a million entries, in the same run.

    Raises:
        GradwireError: the interpreter fails, or has no flwr that this benchmark knows.
    """
    script = Path(__file__).with_name("flower.py")
    ran = subprocess.run([python, str(script), str(clients), str(MILLION)], capture_output=True, text=True, check=False)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise GradwireError(f"Flower's primitives cannot be measured with {python}: {last}")
    found = json.loads(ran.stdout.splitlines()[-1])
    yield row("mask", "flower", 2, MILLION, 32, found["mask"], None, found["bytes"], "measured")
    how = "one client measured, server calculated"
    yield row("round", "flower", clients, MILLION, 32, found["client"], found["server"], found["bytes"], how)


def row(
    what: str, by: str, clients: int, entries: int, bits: int, one: float, server: float | None, up: int, how: str
) -> Row:
    """One line of the table."""
    return dict(zip(COLUMNS, (what, by, clients, entries, bits, one, server, up, how), strict=True))


def best(work: Callable[[], object], times: int = 5) -> float:
    """The shortest of several runs, in seconds."""
    found = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        found = min(found, time.perf_counter() - started)
    return found
