"""What secure sums cost: masks, whole rounds, sparse beside dense, curves; beside Flower's SecAgg+ where it is.

Every row says how it came about: "measured", or "calculated" from measured parts. Seconds are medians of those spent by
a party itself, without the wire; bytes are lengths of messages.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from gradwire.bench.stopwatch import Stopwatch
from gradwire.bench.timing import median_seconds
from gradwire.errors import GradwireError
from gradwire.report import COST_COLUMNS
from gradwire.schemes import Layout, Round, exchange_keys, parse
from gradwire.schemes.sga import SGA
from gradwire.schemes.ssga import SSGA
from gradwire.secure import keys, shares
from gradwire.secure.byte_tensors import table, to_tensor
from gradwire.secure.graph import STATED, sufficient
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.masks import blend
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import SERVER, InProcess, Message, Send, Tensors, Transcript, client, indices
from gradwire.wire.transport import drive

Row = dict[str, object]
MILLION = 1_000_000
COMPLETE = 100
"""Clients up to which a round with a complete graph of shares is played: its cost goes with their square."""
MANY = (10, 30, 100, 300)
"""Clients among which SSGA is compared with SGA."""
REPEATS = 3
"""Of rounds; shorter works are repeated more often."""


def benchmark(
    clients: Sequence[int] = (10, 30, 100),
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
    for n in sorted({small, *entries}):
        for scheme in schemes(few, n):
            yield played(scheme, few, n)
    for n in sorted(set(clients) - {few}):
        for scheme in schemes(n, small):
            yield played(scheme, n, small)
    yield calculated(MILLION, small)
    yield calculated(MILLION, MILLION)
    for size in (MILLION, 10 * MILLION):
        for n in MANY:
            yield floor(n, size)
            yield from masking(n, size)
            yield later("sga", n, size)
            yield later("ssga", n, size)
    yield played(f"sga:threshold={whole * 2 // 3 + 1}", whole, MILLION)
    yield played(f"sga:threshold={whole * 2 // 3 + 1},neighbours=few", whole, MILLION)
    if python := flower or (sys.executable if find_spec("flwr") else None):
        yield from beside(python, whole)


def schemes(clients: int, entries: int) -> list[str]:
    """What is played among so many clients: without and with dropouts, dense and, if each can choose one, sparse."""
    threshold = f"threshold={clients * 2 // 3 + 1}"
    complete = [f"sga:{threshold}"] if clients <= COMPLETE else []
    sparse = ["ssga", "ssga:union=anonymous"] if entries >= clients * SSGA().compression else []
    return ["sga", *complete, f"sga:{threshold},neighbours=few", *sparse]


def masks() -> Iterator[Row]:
    """One mask of a million entries, expanded and added (Flower's is only expanded: an advantage given away)."""
    several = [(bytes([i]) * 32, 1) for i in range(10)]
    for bits in BITS:
        codes = np.zeros(MILLION, dtype=Ring(bits, 2).dtype)
        took = median_seconds(lambda codes=codes: blend(codes, several)) / len(several)  # type: ignore[misc]
        yield row("mask", "gradwire", 2, MILLION, bits, took, None, MILLION * bits // 8, "measured")


def masking(clients: int, entries: int) -> Iterator[Row]:
    """What a client pays for the masks of one round: of all entries, and of the K = N / 200 of SSGA."""
    pairs = [(bytes([i % 256]) * 32, 1 if i % 2 else -1) for i in range(clients - 1)]
    for scheme, count in (("sga", entries), ("ssga", entries // 200)):
        codes = np.zeros(count, dtype=np.uint32)
        took = median_seconds(lambda codes=codes: blend(codes, pairs))  # type: ignore[misc]
        yield row(f"masking, {scheme}", "gradwire", clients, entries, 32, took, None, 4 * count, "measured")


def floor(clients: int, entries: int) -> Row:
    """What a client of SSGA cannot be without, however many they are: R + ∇, into memory that is there."""
    residual, gradient, total = torch.zeros(entries), torch.randn(entries), torch.empty(entries)
    took = median_seconds(lambda: torch.add(residual, gradient, out=total))
    return row("floor, ssga", "gradwire", clients, entries, 32, took, None, 0, "measured, one addition")


def played(spec: str, clients: int, entries: int) -> Row:
    """A whole round, keys and all, played through the transport: the median client, and the server."""
    scheme, layout = parse(spec), Layout({"w": (entries,)})
    update = {"w": torch.randn(entries, generator=torch.Generator().manual_seed(0))}
    parties = tuple(map(client, range(clients)))
    private = exchange_keys(scheme, {party: scheme.private_state(layout) for party in parties})
    around, watch, transport = Round(0, parties, 0, layout), Stopwatch(), InProcess(Transcript(keep=0))
    halves = {p: watch.around(p, scheme.client(update, private[p], {}, around)) for p in parties}
    drive(transport, halves, watch.around("server", scheme.server({}, around)), 0)
    server = watch.seconds.pop("server")
    one = statistics.median(watch.seconds.values())
    up = transport.transcript.bytes_up() // clients
    return row(f"round, {spec}", "gradwire", clients, entries, 32, one, server, up, "measured")


def later(spec: str, clients: int, entries: int) -> Row:
    """What one client of `sga` or `ssga` and the server spend once keys are agreed on; the others are not played.

    In their place the server gets messages as large as theirs: places at random, codes of zeros.
    """
    scheme, layout = parse(spec), Layout({"w": (entries,)})
    assert isinstance(scheme, SGA)
    parties = tuple(map(client, range(clients)))
    around = Round(1, parties, 0, layout)
    public = scheme.protocol.public(scheme.gathering(around))
    chains = table([bytes([i % 256]) * KEY_BYTES for i in range(clients)], KEY_BYTES)
    known = {"me": to_tensor(parties[0].encode()), "chain": chains, "turn": torch.tensor(1)}
    private = {**scheme.private_state(layout), **known}
    update = {"w": torch.randn(entries, generator=torch.Generator().manual_seed(0))}
    offers = offered(scheme, around)
    watches = []
    for _ in range(REPEATS):
        watch, up = Stopwatch(), 0
        half = watch.around("client", scheme.client(update, private, public, around))
        served = watch.around("server", scheme.server(public, around))
        send, _ = next(half), next(served)
        try:
            while True:
                up += Message(parties[0], SERVER, 1, send.phase, send.tensors).size
                masked = {"masked": torch.zeros_like(send.tensors["masked"])} if "masked" in send.tensors else {}
                reply = served.send(dict.fromkeys(parties, masked) if masked else offers)
                assert isinstance(reply, Send)
                send = half.send(reply.tensors)
        except StopIteration:
            watches.append(watch.seconds)
    one, server = (statistics.median(seconds[party] for seconds in watches) for party in ("client", "server"))
    how = "measured, one client and the server"
    return row(f"later round, {spec}", "gradwire", clients, entries, 32, one, server, up, how)


def offered(scheme: SGA, round: Round) -> Mapping[str, Tensors]:
    """What clients might tell in the clear: a magnitude, and under SSGA places of their own."""
    if not isinstance(scheme, SSGA):
        return {party: {"maximum": torch.tensor(9.0)} for party in round.clients}
    size, share = round.layout.size, scheme.share(round)
    places = torch.randperm(size)[: share * len(round.clients)].view(-1, share).sort(1).values
    return {
        party: {"maximum": torch.tensor(9.0), "indices": indices.encode(own, size)}
        for party, own in zip(round.clients, places, strict=True)
    }


def calculated(clients: int, entries: int) -> Row:
    """A round with a sparse graph among too many clients to play it, from the measured cost of its parts.

    Nobody drops out. The server puts one secret of every client together: with many clients, it does little else.
    """
    degree = sufficient(clients, STATED)
    k, t = degree.neighbours, degree.threshold
    ring = Ring(32, clients)
    secret = keys.secret_key("x25519", bytes(16))
    public = keys.public_key("x25519", secret)
    identity, values = bytes(32), torch.randn(entries)
    signature, verification = keys.sign(identity, b"x"), keys.verification_key(identity)
    dealt = dict(enumerate(shares.split(bytes(16), t, k + 1)))
    codes = ring.encode(values, 9.0)
    mask = median_seconds(lambda: blend(codes, [(bytes(32), 1)]))
    each = median_seconds(lambda: keys.agree("x25519", secret, public, "peer")) * 2
    each += median_seconds(lambda: keys.verify(verification, signature, b"x")) + mask
    split = median_seconds(lambda: shares.split(bytes(16), t, k + 1), REPEATS)
    one = k * each + mask + 2 * split + median_seconds(lambda: ring.encode(values, 9.0))
    add = median_seconds(lambda: np.add(codes, codes, out=codes))
    restore = median_seconds(lambda: shares.combine(dealt, t), REPEATS)
    up = 4 * entries + 160 + k * (48 + 16 + 8)
    what = f"round, sga:threshold={clients * 2 // 3 + 1},neighbours=few"
    how = (
        f"calculated: a client, {k} × {1000 * each:.2g} ms a neighbour and 2 × {1000 * split:.2g} ms to split secrets; "
        f"the server, {clients:,} × {1000 * restore:.2g} ms to put {t} of {k + 1} shares together and as often "
        f"{1000 * (add + mask):.2g} ms to add a vector and take its mask off"
    )
    return row(what, "gradwire", clients, entries, 32, one, clients * (add + mask + restore), up, how)


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
    return dict(zip(COST_COLUMNS, (what, by, clients, entries, bits, one, server, up, how), strict=True))
