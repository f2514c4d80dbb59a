"""What secure sums cost: masks, whole rounds, sparse beside dense; beside Flower's SecAgg+ where it is installed.

Every row says whether it was measured, or calculated from measured parts. Seconds are medians of the processor time of
one thread that a party itself spends, without the wire; bytes are lengths of messages.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from gradwire.bench import others, timing
from gradwire.report import COST_COLUMNS
from gradwire.runs import Row, RunFolder
from gradwire.schemes import Layout, Round, Scheme, Update, exchange_keys, parse
from gradwire.schemes.sga import SGA
from gradwire.schemes.ssga import SSGA
from gradwire.secure import keys, shares
from gradwire.secure.byte_tensors import table, to_tensor
from gradwire.secure.graph import STATED, sufficient
from gradwire.secure.kdf import KEY_BYTES, derive
from gradwire.secure.masks import blend
from gradwire.secure.protocol import Total
from gradwire.secure.ring import BITS, Ring
from gradwire.wire import (
    SERVER,
    ClientHalf,
    InProcess,
    Message,
    Send,
    ServerHalf,
    Tensors,
    Transcript,
    client,
    drop_out,
    indices,
)
from gradwire.wire.transport import drive

MILLION = 1_000_000
COMPLETE = 100
"""Clients up to which a round with a complete graph of shares is run: its cost goes with their square."""
RESTORED = 1000
"""Secrets that are put together at a time, where that is measured."""
REPEATS = 3
"""Of rounds; shorter work is repeated more often."""


median_seconds = partial(timing.median_seconds, clock=time.process_time)
stopwatch = partial(timing.Stopwatch, clock=time.process_time)


@dataclass(frozen=True)
class SecureSettings:
    """What is measured.

    Attributes:
        clients, entries: of the curves, each at the smallest of the other.
        flower: a Python that has flwr; by default this one, if it has.
        whole: clients of the round that is compared with Flower's, at a million entries.
        served: clients of the rounds whose server is measured, at a million entries.
        sparse: clients among whom SSGA is compared with SGA, and `sizes`, the entries of their models.
    """

    clients: Sequence[int] = (10, 30, 100)
    entries: Sequence[int] = (10_000, 100_000, MILLION)
    flower: str | None = None
    whole: int = 100
    served: Sequence[int] = (1000,)
    sparse: Sequence[int] = (10, 30, 100, 300)
    sizes: Sequence[int] = (MILLION, 10 * MILLION)

    def masks(self) -> Iterator[Row]:
        """One mask."""
        yield from masks()

    def rounds(self) -> Iterator[Row]:
        """Whole rounds, against the number of entries and of clients."""
        few, small = min(self.clients), min(self.entries)
        for n in sorted({small, *self.entries}):
            yield from (whole_round(scheme, few, n) for scheme in schemes(few, n))
        for n in sorted(set(self.clients) - {few}):
            yield from (whole_round(scheme, n, small) for scheme in schemes(n, small))

    def many(self) -> Iterator[Row]:
        """Rounds of a million clients, calculated."""
        yield from (calculated(MILLION, size) for size in (min(self.entries), MILLION))

    def server(self) -> Iterator[Row]:
        """The server of many clients."""
        yield from (server_of(clients, MILLION) for clients in self.served)

    def against_dense(self) -> Iterator[Row]:
        """SSGA beside SGA."""
        for size in self.sizes:
            for n in self.sparse:
                yield from (floor(n, size), *masking(n, size), later("sga", n, size), later("ssga", n, size))

    def beside_flower(self) -> Iterator[Row]:
        """Flower's SecAgg+, and rounds of as many clients."""
        threshold = f"sga:threshold={self.whole * 2 // 3 + 1}"
        yield from (whole_round(spec, self.whole, MILLION) for spec in (threshold, f"{threshold},neighbours=few"))
        if python := self.flower or (sys.executable if find_spec("flwr") else None):
            yield from secagg(python, self.whole)


PARTS: Mapping[str, Callable[[SecureSettings], Iterator[Row]]] = {
    "masks": SecureSettings.masks,
    "rounds": SecureSettings.rounds,
    "many": SecureSettings.many,
    "server": SecureSettings.server,
    "sparse": SecureSettings.against_dense,
    "flower": SecureSettings.beside_flower,
}


def run_secure(settings: SecureSettings, parts: Sequence[str] = tuple(PARTS), out: str | Path | None = None) -> Path:
    """Measure some parts, by default all, and return the folder that it wrote: results.csv, config.json."""
    run = RunFolder.create(out, "bench-secure", COST_COLUMNS)
    run.configure("bench secure", {**asdict(settings), "flower": bool(settings.flower), "parts": list(parts)})
    with timing.threads(1):
        for part in parts:
            for measured in PARTS[part](settings):
                run.append([measured])
    return run.path


def schemes(clients: int, entries: int) -> list[str]:
    """What so many clients run: without and with dropouts, dense and, if each client can choose an entry, sparse."""
    threshold = f"threshold={clients * 2 // 3 + 1}"
    complete = [f"sga:{threshold}"] if clients <= COMPLETE else []
    sparse = ["ssga", "ssga:union=anonymous"] if entries >= clients * SSGA().compression else []
    return ["sga", *complete, f"sga:{threshold},neighbours=few", *sparse]


def masks() -> Iterator[Row]:
    """One mask of a million entries, expanded and added (Flower's is only expanded, which favours Flower)."""
    several = [(bytes([i]) * 32, 1) for i in range(10)]
    for bits in BITS:
        codes = np.zeros(MILLION, dtype=Ring(bits, 2).dtype)
        took = median_seconds(partial(blend, codes, several)) / len(several)
        yield row("mask", 2, MILLION, took, None, MILLION * bits // 8) | {"bits": bits}


def masking(clients: int, entries: int) -> Iterator[Row]:
    """A client's masks of one round: of all entries, and of the K = N / 200 of SSGA."""
    pairs = [(bytes([i % 256]) * 32, 1 if i % 2 else -1) for i in range(clients - 1)]
    for scheme, count in (("sga", entries), ("ssga", entries // 200)):
        took = median_seconds(partial(blend, np.zeros(count, dtype=np.uint32), pairs))
        yield row(f"masking, {scheme}", clients, entries, took, None, 4 * count)


def floor(clients: int, entries: int) -> Row:
    """What every client of SSGA must do, however many they are: add R + ∇, into memory that is there."""
    residual, gradient, total = torch.zeros(entries), torch.randn(entries), torch.empty(entries)
    took = median_seconds(partial(torch.add, residual, gradient, out=total))
    return row("floor, ssga", clients, entries, took, None, 0, "measured, one addition")


def whole_round(spec: str, clients: int, entries: int) -> Row:
    """A first round, keys and all, over the in-process transport: the median client, and the server."""
    scheme, layout, update = _problem(spec, entries)
    parties = tuple(map(client, range(clients)))
    private = exchange_keys(scheme, {party: scheme.private_state(layout) for party in parties})
    around, watch, transport = (Round(0, parties, 0, layout), stopwatch(), InProcess(Transcript(keep=0)))
    halves = {p: watch.around(p, scheme.client(update, private[p], {}, around)) for p in parties}
    drive(transport, halves, watch.around(SERVER, scheme.server({}, around)), 0)
    server = watch.seconds.pop(SERVER)
    one = statistics.median(watch.seconds.values())
    return row(f"round, {spec}", clients, entries, one, server, transport.transcript.bytes_up() // clients)


def later(spec: str, clients: int, entries: int) -> Row:
    """What one client of `sga` or `ssga` and the server spend on a round whose keys are agreed on.

    No other client runs. In their place the server gets messages as large as theirs: places at random, codes of zeros.
    The first two rounds are not counted: from the third on memory is used again.
    """
    scheme, layout, update = _problem(spec, entries)
    assert isinstance(scheme, SGA)
    parties = tuple(map(client, range(clients)))
    around = Round(1, parties, 0, layout)
    public = scheme.protocol.public(scheme.gathering(around))
    chains = table([bytes([i % 256]) * KEY_BYTES for i in range(clients)], KEY_BYTES)
    known = {"me": to_tensor(parties[0].encode()), "chain": chains, "turn": torch.tensor(1)}
    private, clear = {**scheme.private_state(layout), **known}, _clear(scheme, around)
    watches = []
    for _ in range(2 + REPEATS):
        watch, up = stopwatch(), 0
        half = watch.around("client", scheme.client(update, private, public, around))
        server = watch.around(SERVER, scheme.server(public, around))
        send, _ = next(half), next(server)
        try:
            while True:
                up += Message(parties[0], SERVER, 1, send.phase, send.tensors).size
                masked = {name: torch.zeros_like(code) for name, code in send.tensors.items() if name == "masked"}
                reply = server.send(dict.fromkeys(parties, masked) if masked else {**clear, parties[0]: send.tensors})
                assert isinstance(reply, Send)
                send = half.send(reply.tensors)
        except StopIteration:
            watches.append(watch.seconds)
    one, total = (statistics.median(seconds[party] for seconds in watches[2:]) for party in ("client", SERVER))
    return row(f"later round, {spec}", clients, entries, one, total, up, "measured, one client and the server")


def _clear(scheme: SGA, round: Round) -> Mapping[str, Tensors]:
    """What clients might tell in the clear: a magnitude, and under SSGA places of their own."""
    maximum, size = {"maximum": torch.tensor(9.0)}, round.layout.size
    if not isinstance(scheme, SSGA):
        return dict.fromkeys(round.clients, maximum)
    share = scheme.share(round)
    places = torch.randperm(size)[: share * len(round.clients)].view(-1, share).sort(1).values
    return {p: {**maximum, "indices": indices.encode(own, size)} for p, own in zip(round.clients, places, strict=True)}


def _problem(spec: str, entries: int) -> tuple[Scheme, Layout, Update]:
    update = {"w": torch.randn(entries, generator=torch.Generator().manual_seed(0))}
    return parse(spec), Layout.of(update), update


def calculated(clients: int, entries: int) -> Row:
    """A round without dropouts on a sparse graph of too many clients to run it, from the measured cost of its parts."""
    degree = sufficient(clients, STATED)
    k, t = degree.neighbours, degree.threshold
    ring, secret, identity, values = (
        Ring(32, clients),
        keys.secret_key("x25519", bytes(16)),
        bytes(32),
        torch.randn(entries),
    )
    public = keys.public_key("x25519", secret)
    signature, verification = keys.sign(identity, b"x"), keys.verification_key(identity)
    dealt = [dict(enumerate(shares.split(bytes(16), t, k + 1)))] * RESTORED
    codes = ring.encode(values, 9.0)
    several = [(bytes([i]) * KEY_BYTES, 1) for i in range(10)]  # at once, as both sides take them
    mask = median_seconds(lambda: blend(codes, several)) / len(several)
    each = 2 * median_seconds(lambda: keys.agree("x25519", secret, public, "peer")) + mask
    each += median_seconds(lambda: keys.verify(verification, signature, b"x"))
    split = median_seconds(lambda: shares.split(bytes(32), t, k + 1), REPEATS)
    peers = round(2 * k - k * k / clients)  # those it has drawn, and those that have drawn it
    one = peers * each + mask + split + median_seconds(lambda: ring.encode(values, 9.0))
    add = median_seconds(lambda: np.add(codes, codes, out=codes))
    restore = median_seconds(lambda: shares.combine_all(dealt, t, k + 1), REPEATS) / RESTORED
    derive_keys = median_seconds(lambda: (derive(bytes(16), "own mask"), derive(bytes(16), "commitment")))
    how = (
        f"calculated: a client, {peers} × {1000 * each:.2g} ms a neighbour and {1000 * split:.2g} ms to split secrets; "
        f"the server, {clients:,} × {1000 * restore:.2g} ms to put {t} of {k + 1} shares together and as often "
        f"{1000 * (add + mask + derive_keys):.2g} ms to add a vector and take its mask off"
    )
    up = 4 * entries + 256 + k * (4 + 48 + 32) + k * 4 + k * (4 + 16)  # shares and digests, ready, unmask
    what = f"round, sga:threshold={clients * 2 // 3 + 1},neighbours=few"
    return row(what, clients, entries, one, clients * (add + mask + derive_keys + restore), up, how)


def server_of(clients: int, entries: int) -> Row:
    """A server's round with so many clients on a sparse graph, of which a tenth vanish before they send their codes.

    Everything is sent as in any round, but that one vector stands for all clients' codes, which would not fit here.
    """
    parties, layout = tuple(map(client, range(clients))), Layout({"w": (1,)})
    scheme = parse(f"sga:threshold={(clients + clients // 3) // 2 + 1},neighbours=few")
    assert isinstance(scheme, SGA)
    around, ring = Round(0, parties, 0, layout), Ring.fitting(32, clients)
    states = exchange_keys(scheme, {party: scheme.private_state(layout) for party in parties})

    def member(party: str) -> ClientHalf[object]:
        joined = yield from scheme.protocol.join(scheme.gathering(around), states[party], {})
        return (yield from joined.contribute(np.zeros(1, dtype=ring.dtype), "masked"))

    def serve() -> ServerHalf[Total]:
        uploads = yield None
        server, uploads = yield from scheme.protocol.server(scheme.gathering(around)).open(uploads)
        codes = {"masked": torch.zeros(entries, dtype=torch.uint32)}
        stayed = dict.fromkeys(uploads, codes)
        total = yield from server.total(stayed, ring, entries, "masked")
        yield Send("unmask", {"contributors": torch.tensor(total.contributors)})
        return total

    watch, transport = stopwatch(), InProcess(Transcript(keep=0))
    gone = {party for i, party in enumerate(parties) if i % 10 == 0}
    halves = {p: drop_out(member(p), "masked") if p in gone else member(p) for p in parties}
    drive(transport, halves, watch.around(SERVER, serve()), 0)
    how, up = "the server measured, one vector for all clients' codes; a tenth vanish", 4 * entries
    up += transport.transcript.bytes_up(parties[1])
    return row(f"server of {scheme.spec}", clients, entries, None, watch.seconds[SERVER], up, how)


def secagg(python: str, clients: int) -> Iterator[Row]:
    """Flower's SecAgg+ with as many neighbours as clients, at a million entries; errors are `others.run`'s."""
    script = str(others.SCRIPTS / "secagg_by_flower.py")
    found = json.loads(others.run("--flower", python, script, str(clients), str(MILLION)).splitlines()[-1])
    yield row("mask", 2, MILLION, found["mask"], None, found["bytes"]) | {"by": "flower"}
    how = "one client measured, server calculated"
    yield row("round", clients, MILLION, found["client"], found["server"], found["bytes"], how) | {"by": "flower"}


def row(
    what: str, clients: int, entries: int, one: float | None, server: float | None, up: int, how: str = "measured"
) -> dict[str, object]:
    """One line of the table, for codes of 32 bits: seconds of a client and of the server, bytes of a client."""
    return dict(zip(COST_COLUMNS, (what, "gradwire", clients, entries, 32, one, server, up, how), strict=True))
