"""Who sees what: tables from one small round of every scheme, from its measurement and from what it declares.

Nothing here is written down by hand but the order of columns. For each scheme a round of three clients runs as an audit
runs it; what each adversary's part of the transcript determines is the certificate's sentence.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from gradwire import registry
from gradwire.attacks.inversion.exact.certificate import Certificate, certify
from gradwire.attacks.inversion.exact.known import Kind
from gradwire.attacks.inversion.problem import pose
from gradwire.errors import GradwireError
from gradwire.integrations import ddp, outer
from gradwire.schemes import parse
from gradwire.schemes.observation import observation, pooled
from gradwire.studies.active.audit import LIES, succeeds
from gradwire.studies.active.scene import Scene
from gradwire.tasks import task_of
from gradwire.training import capture
from gradwire.wire import Need, View

ADVERSARIES = {"server": "server", "eavesdropper": "eavesdropper", "client": "fellow client"}
"""As `--adversary` spells them: what a reader calls them."""
CLIENTS = 3
SPECS = {
    "topk": "topk:ratio=0.1",
    "randomk": "randomk:ratio=0.1",
    "dgc": "dgc:ratio=0.1",
    "noise": "noise:std=0.01",
    "sparsify": "sparsify:drop=0.9",
    "autoencoder": "autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1",
    "ssga": "ssga:compression=10",
    "ssga-dgc": "ssga-dgc:compression=10",
}
"""Specs for a model this small, and of what cannot stand alone; of other schemes the name."""
BESIDE = ("powersgd:rank=1+sga", "ssga:compression=10,union=anonymous")


def specs() -> Iterator[str]:
    """A spec of every scheme that is built in, and of a few that are made of them."""
    yield from map(_spec, registry.SCHEMES.builtin)
    yield from BESIDE


def _spec(name: str) -> str:
    return SPECS.get(name, name)


@lru_cache(None)
def views(spec: str) -> dict[str, View]:
    """Adversary → what it sees of a round of three clients, the first of whom is the victim."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
        inputs, labels = torch.rand(CLIENTS, 1, 1, 8, 8), torch.arange(CLIENTS)[:, None]
    work = {"local_steps": 1, "lr": 0.1} if Need.LOCAL_UPDATE in parse(spec).needs else {}
    batches = list(zip(inputs, labels, strict=True))
    return {
        adversary: capture(model, *batches[0], spec, adversary=adversary, fellows=batches[1:], **work)
        for adversary in ADVERSARIES
    }


def seen(spec: str, adversary: str) -> tuple[str, str]:
    """Whose update the adversary observes, and what of it is determined to one who knows the scheme."""
    view = views(spec)[adversary]
    problem = pose(view, "adaptive")
    parties = pooled(view, observation(view)[0])
    others = "all clients" if len(parties) == CLIENTS else f"the {len(parties)} others"
    return "the victim alone" if len(parties) == 1 else f"the mean of {others}", determined(certify(problem))


def determined(found: Certificate) -> str:
    """A certificate in a few words."""
    sizes: Counter[Kind] = Counter()
    for each in found.parameters.values():
        sizes[each.kind] += each.size
    total = sizes.total()
    if sizes.keys() <= {"all", "entries", "nothing"}:
        share = sum(each.entries for each in found.parameters.values()) / total
        words = ["every entry" if share == 1 else f"{share:.0%} of the entries"]
    else:
        words = [WORDS[kind] + ("" if size == total else f" of {size / total:.0%}") for kind, size in sizes.items()]
    if found.deviation:
        words.append(f"with noise of standard deviation {found.deviation:.2g}")
    return "; ".join([*words, *(f"it is {each}" for each in found.beside)])


WORDS: dict[Kind, str] = {
    "all": "every entry",
    "entries": "some entries",
    "sketch": "a part of the rank",
    "signs": "the sign of every entry",
    "cells": "the quantisation cell of every entry",
    "constraints": "constraints on entries",
    "code": "a latent code",
    "numbers": "linear functions of the entries",
    "nothing": "nothing",
}


def messages(spec: str) -> str:
    """What the victim sends in a round, phase by phase: the tensors, and the bytes of all."""
    view = views(spec)["server"]
    sent = [f"{m.phase} ({', '.join(sorted(m.tensors))})" for m in view.messages if m.sender == view.victim]
    return f"{', '.join(sent)}: {view.bytes_up:,} bytes"


def adversaries() -> str:
    """The table of who sees what."""
    lines = ["| scheme | server, eavesdropper | fellow client | the victim's messages |", "|---|---|---|---|"]
    for spec in specs():
        server, eavesdropper, client = (seen(spec, adversary) for adversary in ADVERSARIES)
        if server != eavesdropper:
            raise GradwireError(f"{spec}: an eavesdropper sees {eavesdropper}, the server {server}; part the columns")
        told = [f"{of}: {what}" for of, what in (server, client)]
        lines.append(f"| `{spec}` | {told[0]} | {told[1]} | {messages(spec)} |")
    return _stacked("seen", lines)


def needs() -> str:
    """The table of what schemes need of a carrier, and which carriers offer it; a secure sum has a threshold here."""
    lines = [f"| needed | schemes | {' | '.join(CARRIERS)} |", "|---|---|" + "---|" * len(CARRIERS)]
    parsed = {spec: parse(spec) for spec in map(_spec, registry.SCHEMES.builtin)}
    for need in Need:
        asking = ", ".join(f"`{spec.partition(':')[0]}`" for spec, scheme in parsed.items() if need in scheme.needs)
        offers = " | ".join("yes" if need in offered else "no" for offered in CARRIERS.values())
        lines.append(f"| {need.value} | {asking or '–'} | {offers} |")
    free = ", ".join(f"`{scheme.name}`" for scheme in parsed.values() if not scheme.needs)
    return "\n".join([_stacked("needs", lines), "", f"These need nothing and run everywhere: {free}."])


CARRIERS = {
    "in one process": registry.CARRIERS["inprocess"].offers,
    "torch.distributed": registry.CARRIERS["collective"].offers,
    "process 0 as server": registry.CARRIERS["parameter-server"].offers,
    "DDP hook": ddp.OFFERS,
    "outer step": outer.OFFERS,
}
"""Column → what it offers."""


def lies() -> str:
    """The table of what an active server says, and of whom it then has the victim's own values."""
    scenes = [_scene(spec, binding) for spec in LIED_TO for binding in (False, True)]
    lines = ["| lie | what the server does | by the papers' protocol | by gradwire's |", "|---|---|---|---|"]
    for name, (lie, what) in LIES.items():
        if name == "none":
            continue
        came = [(scene.scheme, succeeds(name, lie(scene))) for scene in scenes]
        told = []
        for binding in (False, True):
            won = [f"`{scheme.name}`" for scheme, fell in came if fell and scheme.binding == binding]
            told.append(f"**it has them** ({', '.join(dict.fromkeys(won))})" if won else "it fails")
        lines.append(f"| {name} | {what} | {told[0]} | {told[1]} |")
    return _stacked("lies", lines)


LIED_TO = ("sga", "sga:threshold=T", "ssga:compression=10", "ssga:compression=10,threshold=T")
"""The thresholds are the least that six clients may have, two of whom collude with the server."""


def _scene(spec: str, binding: bool) -> Scene:
    """Six clients, the last two of whom side with the server."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
        inputs = torch.rand(6, 1, 1, 8, 8)
    scheme = replace(parse(spec.replace("T", "5" if binding else "4")), binding=binding)
    return Scene(scheme, model, task_of(inputs[0]), [(inputs[i], torch.tensor([i % 4])) for i in range(6)], 2)


def _stacked(kind: str, lines: list[str]) -> str:
    """A table whose rows become blocks on a narrow screen, in which site.css says by its kind what each cell is."""
    return "\n".join([f"{{.stacked .{kind}}}", *lines])
