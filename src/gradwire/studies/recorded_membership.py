"""Membership on the wire of recorded rounds: one score a candidate and client, and no truth to judge them by."""

from pathlib import Path

import torch

from gradwire import data
from gradwire.attacks.membership import WireAttack, WireStatistics, attack, observe
from gradwire.errors import GradwireError
from gradwire.rounds.recording import load
from gradwire.runs import RESULTS, RunFolder, read_table
from gradwire.schemes import parse
from gradwire.wire import View
from gradwire.wire.view import LocalWork

COLUMNS = ("data", "model", "scheme", "rounds", "attack", "knowledge", "client", "candidate", "score")
USUAL = ("inner-product", "cosine", "norm-difference", "fedmia")


def membership_of_recording(
    path: str | Path,
    candidates: str,
    model: str = "",
    attacks: tuple[str, ...] = (),
    client: str = "",
    work: LocalWork | None = None,
    standardised: bool = True,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
) -> Path:
    """Score candidates against what each client sent in all recorded rounds; the folder with a row for each.

    Args:
        path: of the transcript, which names the scheme and holds the model of each round.
        candidates: a data set's spec; its examples are the candidates.
        model: of the recorded kind, as `models.build` names it; by default what is usual for the data.
        attacks: specs of attacks on the wire; by default all of them.
        client: the only client to judge; by default every client that all recorded rounds have.
        work: clients' local steps, where the recorder did not know them.

    Raises:
        GradwireError: a transcript of another model or data, a client that is not in it, an attack that is not on the
            wire.
    """
    recordings = list(load(path).values())
    dataset = data.load(candidates, "train")
    network = dataset.network(model or dataset.task.network, seed, not standardised)
    scheme = parse(recordings[-1].scheme)
    present = [c for c in recordings[-1].clients if all(c in each.clients for each in recordings)]
    if not present:
        raise GradwireError(f"no client is in all of the {len(recordings)} recorded rounds of {path}")
    if client and client not in present:
        raise GradwireError(f"{client!r} is not in all recorded rounds; {', '.join(present)} are")
    # A server that sees sums only sees one sender: all of them.
    watched = present[:1] if scheme.sums_only else present
    inputs, targets = dataset.batch(range(len(dataset)))
    heard: dict[str, list[WireStatistics]] = {}
    for each in recordings:
        shape = (1, *dataset.shape)
        views = [each.of_client(c, work).view(network, shape, task=dataset.task) for c in watched]
        for knowledge, found in observe(views, inputs, targets, device=device).items():
            heard.setdefault(knowledge, []).append(_scaled(found, views))
    run = RunFolder.create(out, "membership", COLUMNS)
    facts = {"data": dataset.name, "model": model or dataset.task.network, "scheme": scheme.spec}
    options = facts | {"transcript": str(path), "clients": watched, "candidates": len(dataset)}
    run.configure("membership", options, [f"no truth is known here: {path} was recorded from real clients"])
    for spec in attacks or USUAL:
        chosen = attack(spec)
        if not isinstance(chosen, WireAttack):
            raise GradwireError(f"attack {spec!r} asks the model; on a transcript only those on the wire run")
        if chosen.clients > len(watched):
            continue
        for knowledge, several in heard.items():
            statistics = WireStatistics.join(several)
            for victim, name in enumerate(watched):
                if client and name != client and not scheme.sums_only:
                    continue
                scores = chosen.scores(statistics, victim)
                row = facts | {"rounds": len(recordings), "attack": spec, "knowledge": knowledge, "client": name}
                run.append(row | {"candidate": i, "score": float(score)} for i, score in enumerate(scores))
    return run.path


def likeliest(folder: Path, count: int = 5) -> list[tuple[str, ...]]:
    """Of each attack, knowledge and client the candidates that score highest, as text."""
    found: dict[tuple[str, ...], list[tuple[float, str]]] = {}
    for row in read_table(folder / RESULTS):
        key = (row["attack"], row["knowledge"], row["client"])
        found.setdefault(key, []).append((-float(row["score"]), row["candidate"]))
    return [(*key, " ".join(candidate for _, candidate in sorted(each)[:count])) for key, each in found.items()]


def _scaled(statistics: WireStatistics, views: list[View]) -> WireStatistics:
    """The statistics of updates on the scale of one gradient: by the weight, number and size of local steps."""
    sizes = [(view.weight or 1.0) * (view.work.steps * view.work.lr if view.work else 1.0) for view in views]
    scale = 1 / torch.tensor(sizes, dtype=torch.float64)
    return WireStatistics(statistics.inner * scale[:, None], statistics.square, statistics.energy * scale.square())
