"""`gradwire audit --adversary active`: every lie against every masked scheme, beside the papers' protocol."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent
from gradwire.report.rows import LIES_COLUMNS
from gradwire.runs import Row, RunFolder
from gradwire.schemes import parse
from gradwire.schemes.sga import SGA
from gradwire.studies.active import lies
from gradwire.studies.active.imprint import imprint, loki
from gradwire.studies.active.lies import Gain, Lie
from gradwire.studies.active.scene import Scene
from gradwire.studies.audit_settings import DEFAULT_SCHEMES, AuditSettings

SUCCESS = 0.9
"""Correlation with the victim's own values from which a lie has succeeded."""
LIES: dict[str, tuple[Lie, str]] = {
    "none": (lies.nothing, "keeps to the protocol"),
    "split R_max": (lies.split_maximum, "tells the victim the true R_max, the others a huge one"),
    "split union": (lies.split_union, "tells the others another union"),
    "split survivors": (lies.split_survivors, "tells some that the victim is gone; colluders complete the shares"),
    "other models": (lies.other_models, "gives the others a model whose gradients vanish"),
    "LOKI": (loki, "an imprint layer that answers to the victim alone"),
    "imprint": (imprint, "the same imprint layer for all"),
    "shrunk neighbourhood": (lies.shrunk_neighbourhood, "passes on the colluders' keys alone"),
    "replay": (lies.replay, "says again what it said in an earlier round"),
}
"""Name → the lie, and what it is in a few words."""
USUAL = ("sga", "sga:threshold=T", "ssga:compression=20", "ssga:compression=20,threshold=T")


def active_audit(settings: AuditSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Run every lie against every scheme and return the folder that it wrote: results.csv, config.json.

    The schemes are those of the settings, or the usual ones; each runs as it is and, under the name with
    `binding=false`, by the papers' protocol.

    Raises:
        GradwireError: a scheme that is no secure sum, or settings that cannot be met.
    """
    dataset = data.load(settings.data, settings.split).under(settings.loss)
    clients = settings.clients or 6
    colluders = clients // 3
    if clients < 3 or len(dataset) < clients * settings.batch:
        raise GradwireError(f"clients is {clients}; lies need 3 or more, and {clients * settings.batch} examples")
    settings = settings.of(dataset.task)
    model = dataset.network(settings.model, settings.seed, not settings.standardised).eval()
    batches = [dataset.batch(range(i * settings.batch, (i + 1) * settings.batch)) for i in range(clients)]
    run = RunFolder.create(out, "audit", LIES_COLUMNS)
    schemes = list(_schemes(settings, clients, colluders))
    run.configure("lies", asdict(settings) | {"clients": clients, "colluders": colluders})
    for number, scheme in enumerate(schemes):
        scene = Scene(scheme, model, dataset.task, batches, colluders, settings.seed)
        run.append(row(settings, scene, name) for name in LIES)
        progress("lying", number + 1, len(schemes))
    return run.path


def row(settings: AuditSettings, scene: Scene, name: str) -> Row:
    """One lie against one scheme."""
    lie, what = LIES[name]
    gain = lie(scene)
    succeeds = gain.correlation >= SUCCESS and name != "none"
    return {
        **{key: getattr(settings, key) for key in ("data", "model", "seed", "batch")},
        "scheme": scene.scheme.spec,
        "clients": len(scene.batches),
        "colluders": scene.colluders,
        "lie": name,
        "what": what,
        "correlation": round(gain.correlation, 4),
        "succeeds": int(succeeds),
        "outcome": _outcome(gain, succeeds),
    }


def _outcome(gain: Gain, succeeds: bool) -> str:
    if succeeds:
        return "the victim's own values"
    if gain.found is None:
        return f"no sum: {gain.refusals[0]}" if gain.refusals else "no sum"
    return "nothing of the victim's alone"


def _schemes(settings: AuditSettings, clients: int, colluders: int) -> Iterator[SGA]:
    """The papers' protocol, with the least threshold that it admits, and ours, for each of the schemes."""
    least = (clients + colluders) // 2 + 1
    usual = tuple(spec.replace("T", str(least)) for spec in USUAL)
    for spec in settings.schemes if settings.schemes != DEFAULT_SCHEMES else usual:
        scheme = parse(spec)
        if not isinstance(scheme, SGA):
            raise GradwireError(f"adversary 'active' lies in secure sums; {spec} is none: sga, ssga, ssga-dgc")
        yield replace(scheme, binding=False, threshold=scheme.threshold and clients // 2 + 1)
        if scheme.binding:
            yield scheme
